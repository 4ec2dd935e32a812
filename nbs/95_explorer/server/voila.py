"""What `make app` sets where the command line takes text only: a page that nobody else on this machine or network starts a kernel on."""
import logging
import os

from nbformat.sign import MemorySignatureStore

c = get_config()  # noqa: F821, traitlets puts it here
c.Voila.tornado_settings = {
    "websocket_max_message_size": 200_000_000,  # bytes: what one may upload
    "allow_remote_access": False, "local_hostnames": ["localhost", os.environ.get("HOST", "")]}
if os.name == "posix":  # a kernel is talked to through files that are ours alone, and not over ports of this machine
    c.KernelManager.transport = "ipc"
    c.Voila.connection_dir_root = "/tmp"  # their names may have 100 letters, less than what macOS calls its own folder


class Ours(MemorySignatureStore):
    "One notebook is served, the kit's own, and Voilà runs it in any case: a signature that nobody asked for has nothing to add."
    def check_signature(self, digest, algorithm): return True


c.NotebookNotary.store_factory = Ours
# Jupyter counts its pings in milliseconds (30 s between them, 90 s without an answer end a connection); tornado takes the same numbers
# for seconds, finds them odd and says so. Equal numbers, which it asks for, would have Jupyter end connections that are well.
logging.getLogger("tornado.general").addFilter(lambda said: "websocket_ping_timeout" not in said.getMessage())
