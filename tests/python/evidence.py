"""Holds signed artefacts against other people's code: rfc8785, jsonschema, joserfc.

    evidence.py SCHEMAS FOLDER...

SCHEMAS has receipt.schema.json and settled.schema.json. Each FOLDER has X.json, X.json.jws and jwks.json, and of each watch in it all artefacts
from the first on. Prints how many there were; ends with 1 at the first that is not what proto/artefacts/README.md says, naming it.
"""

import base64
import hashlib
import json
import pathlib
import sys
import warnings

import joserfc.errors
import jsonschema
import rfc8785
from joserfc import jws
from joserfc.jwk import KeySet

# RFC 9864 has another name for what RFC 8037 calls EdDSA here; that most libraries know is the older one.
warnings.simplefilter("ignore", joserfc.errors.SecurityWarning)

SCHEMAS = {"receipt": "receipt.schema.json", "settlement": "settled.schema.json"}


class Refused(Exception):
    pass


def validators(folder):
    def validator(name):
        schema = json.loads((folder / name).read_bytes())
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema)

    return {kind: validator(name) for kind, name in SCHEMAS.items()}


def check_canonical(artefact):
    parsed = json.loads(artefact)
    if rfc8785.dumps(parsed) != artefact:
        raise Refused("not canonical JSON")
    return parsed


def check_schema(parsed, schemas):
    validator = schemas.get(parsed.get("artefact") if isinstance(parsed, dict) else None)
    if validator is None:
        raise Refused("neither a receipt nor a settlement")
    error = jsonschema.exceptions.best_match(validator.iter_errors(parsed))
    if error is not None:
        raise Refused(f"schema: {error.json_path}: {error.message}")


def check_signature(artefact, detached, keys):
    header, payload, signature = detached.split(".")
    if payload:
        raise Refused("the signature is not detached")
    payload = base64.urlsafe_b64encode(artefact).decode().rstrip("=")
    jws.deserialize_compact(f"{header}.{payload}.{signature}", keys, algorithms=["EdDSA"])


def check_chain(artefacts):
    """`artefacts` of one watch: (path, bytes, parsed)."""
    previous = None
    for index, (path, artefact, parsed) in enumerate(sorted(artefacts, key=lambda one: one[2]["index"]), start=1):
        if (parsed["index"], parsed.get("previous")) != (index, previous):
            raise Refused(f"{path}: the hash chain is broken: expected index {index} after {previous}")
        previous = hashlib.sha256(artefact).hexdigest()


def check_folder(folder, schemas):
    keys = KeySet.import_key_set(json.loads((folder / "jwks.json").read_bytes()))
    watches = {}
    for path in sorted(folder.glob("*.json")):
        if path.name == "jwks.json":
            continue
        artefact = path.read_bytes()
        try:
            parsed = check_canonical(artefact)
            check_schema(parsed, schemas)
            check_signature(artefact, path.with_name(path.name + ".jws").read_text("ascii"), keys)
        except (Refused, OSError, ValueError, rfc8785.CanonicalizationError, joserfc.errors.JoseError) as refused:
            raise Refused(f"{path}: {refused or type(refused).__name__}") from refused
        watches.setdefault(parsed["watch"], []).append((path, artefact, parsed))
    for artefacts in watches.values():
        check_chain(artefacts)
    return sum(map(len, watches.values()))


def main(schemas, *folders):
    schemas = validators(pathlib.Path(schemas))
    try:
        count = sum(check_folder(pathlib.Path(folder), schemas) for folder in folders)
    except Refused as refused:
        sys.exit(str(refused))
    print(f"{count} artefacts")


if __name__ == "__main__":
    main(*sys.argv[1:])
