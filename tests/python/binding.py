"""Computes quoteHash, authHash and txBinding with rfc8785 and hashlib, and compares them with the published vectors.

    binding.py VECTORS

Written from the table in src/verify/binding.rs, with nothing of it: two implementations agree on each vector, or one is wrong.
"""

import base64
import hashlib
import json
import re
import sys

import rfc8785

REQUIREMENTS = {
    "h402": ("namespace", "networkId", "scheme", "payToAddress", "amountRequired"),
    "x402-v1": ("scheme", "network", "maxAmountRequired", "asset", "payTo"),
    "x402-v2": ("scheme", "network", "amount", "asset", "payTo"),
    "s402": ("network", "amount", "asset", "payTo"),
}
PAYLOAD = {
    "x402-v1": {"x402Version": 1, "scheme": str, "network": str, "payload": dict},
    "x402-v2": {"x402Version": 2, "accepted": dict, "payload": dict},
    "s402": {"scheme": str, "payload": dict},
}


class Refused(Exception):
    pass


def refuse_if(wrong, why):
    if wrong:
        raise Refused(why)


def members(pairs):
    refuse_if(len({name for name, _ in pairs}) < len(pairs), "a member occurs twice")
    return dict(pairs)


def integer(text):
    """rfc8785 takes integers up to 2^53 - 1, and beyond only as floats."""
    number = int(text)
    if abs(number) < 2**53:
        return number
    refuse_if(int(float(number)) != number, f"{text} is no double")
    return float(number)


def read(text):
    refuse_if(len(text.encode()) > 256 * 1024, "too large")
    parsed = json.loads(text, object_pairs_hook=members, parse_int=integer)
    refuse_if(not isinstance(parsed, dict), "no object")
    return parsed


def requirements(protocol, parsed):
    if protocol == "x402-v2" and "accepted" in parsed:
        parsed = payload(protocol, parsed)["accepted"]
    refuse_if(protocol != "s402" and "accepts" in parsed, "a list to choose from")
    for name in REQUIREMENTS[protocol]:
        types = (str, int, float) if name == "amountRequired" else (str,)
        value = parsed.get(name)
        refuse_if(not isinstance(value, types) or isinstance(value, bool), name)
    return parsed


def payload(protocol, parsed):
    for name, wanted in PAYLOAD[protocol].items():
        value = parsed.get(name)
        fits = isinstance(value, wanted) if isinstance(wanted, type) else value == wanted and value is not True
        refuse_if(not fits, name)
    return parsed


def computed(vector):
    protocol, what, text = vector["protocol"], vector["what"], vector["input"]
    if what == "auth" and protocol == "h402":
        header = text.strip(" \t\r\n\f")
        refuse_if(not re.fullmatch(r"[A-Za-z0-9+/_=-]+", header), "no base64")
        return hashlib.sha256(header.encode()).hexdigest()
    parsed = read(text)
    if what == "auth":
        return hashlib.sha256(rfc8785.dumps(payload(protocol, parsed))).hexdigest()
    quoted = rfc8785.dumps(requirements(protocol, parsed))
    if what == "quote":
        return hashlib.sha256(quoted).hexdigest()
    paid = rfc8785.dumps(payload(protocol, read(vector["payload"])))
    digest = hashlib.sha256(b"s402-txbinding-v1\0" + quoted + b"\x1e" + paid).digest()
    return "sha256-" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def main(path):
    vectors = json.load(open(path, encoding="utf-8"))
    for vector in vectors:
        try:
            result = computed(vector)
        except (Refused, ValueError, OverflowError, rfc8785.CanonicalizationError) as refused:
            if "error" not in vector:
                sys.exit(f"{vector['name']}: refused: {refused}")
            continue
        if result != vector.get("hash"):
            sys.exit(f"{vector['name']}: {result}")
    print(f"{len(vectors)} vectors")


if __name__ == "__main__":
    main(sys.argv[1])
