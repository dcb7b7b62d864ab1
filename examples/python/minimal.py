"""An echo server in its shortest form.

pip install wsabi && python minimal.py 8080
"""

import sys

import wsabi


def on_message(ws: wsabi.WebSocket, data: str | bytes) -> None:
    ws.send(data)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
server = wsabi.serve("127.0.0.1", port, on_message=on_message)
print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
wsabi.run_forever()
