"""A merchant in Python: makes a watch and follows it to its settlement.

Its gRPC code is generated from proto/ alone, at run time.

usage: merchant.py PROTO_FOLDER SERVER NETWORK ASSET TX PAY_TO AMOUNT DEPTH
"""

import hashlib
import importlib
import json
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc


def generate(proto, out):
    arguments = ["protoc", f"-I{proto}", f"--python_out={out}", f"--grpc_python_out={out}", "h402/watch/v1/watch.proto"]
    if protoc.main(arguments) != 0:
        sys.exit("the schema does not compile")
    sys.path.insert(0, out)
    return importlib.import_module("h402.watch.v1.watch_pb2"), importlib.import_module("h402.watch.v1.watch_pb2_grpc")


def main():
    proto, server, network, asset, tx, pay_to, amount, depth = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out, grpc.insecure_channel(server) as channel:
        v1, services = generate(proto, out)
        service = services.WatchServiceStub(channel)
        spec = v1.WatchSpec(
            network=network,
            transaction=v1.TransactionSubject(tx=tx),
            terms=v1.Terms(
                pay_to=pay_to,
                asset=asset,
                amount=amount,
                depth_blocks=int(depth),
                deadline_ms=int(time.time() * 1000) + 60_000,
            ),
        )
        watch = service.CreateWatch(v1.CreateWatchRequest(watch=spec)).watch
        previous = None
        for response in service.Subscribe(v1.SubscribeRequest(after_sequence=0, watch_ids=[watch.id]), timeout=60):
            if not response.HasField("event"):
                continue
            event = response.event
            artefact = json.loads(event.artefact)
            assert hashlib.sha256(event.artefact).hexdigest() == event.receipt_hash
            assert artefact.get("previous") == previous, "each artefact names the one before it"
            previous = event.receipt_hash
            print(event.kind, flush=True)
            if event.kind == "settled":
                print(artefact["outcome"], artefact["received"])
                break
        spec.terms.amount = "1.5"
        try:
            service.CreateWatch(v1.CreateWatchRequest(watch=spec))
        except grpc.RpcError as error:
            print(error.code().name, error.details())


main()
