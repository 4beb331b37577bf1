"""Puts, lists, renames and reads a file with paramiko's SFTP client.

usage: paramiko_sftp.py HOST PORT USERNAME PASSWORD DIRECTORY password|interactive
"""
import io
import sys

import paramiko

host, port, username, password, directory, how = sys.argv[1:]
transport = paramiko.Transport((host, int(port)))
transport.start_client()
if how == "password":
    transport.auth_password(username, password)
else:
    transport.auth_interactive(username, lambda title, text, fields: [password] * len(fields))
sftp = paramiko.SFTPClient.from_transport(transport)
data = bytes(range(256)) * 4096
sftp.putfo(io.BytesIO(data), directory + "/part")
sftp.rename(directory + "/part", directory + "/whole")
assert sftp.listdir(directory) == ["whole"], sftp.listdir(directory)
assert sftp.stat(directory + "/whole").st_size == len(data)
with sftp.open(directory + "/whole") as f:
    assert f.read() == data
try:
    sftp.stat(directory + "/part")
except FileNotFoundError:
    pass
else:
    raise AssertionError("the old name is still there")
sftp.remove(directory + "/whole")
sftp.close()
transport.close()
print("ok")
