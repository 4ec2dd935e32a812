"""What `make app` sets where the command line takes text only: a page that nobody else on this machine or network starts a kernel on."""
import os

c = get_config()  # noqa: F821, traitlets puts it here
c.Voila.tornado_settings = {
    "websocket_max_message_size": 200_000_000,  # bytes: what one may upload
    "allow_remote_access": False, "local_hostnames": ["localhost", os.environ.get("HOST", "")]}
if os.name == "posix":  # a kernel is talked to through files that are ours alone, and not over ports of this machine
    c.KernelManager.transport = "ipc"
    c.Voila.connection_dir_root = "/tmp"  # their names may have 100 letters, less than what macOS calls its own folder
