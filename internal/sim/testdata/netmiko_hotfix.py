"""Takes a simulated probe through a hotfix with netmiko and paramiko alone.

usage: netmiko_hotfix.py HOST PORT USERNAME PASSWORD FILE
Prints one JSON object with what each step gave.
"""
import json
import os
import sys
import time

import paramiko
from netmiko import ConnectHandler

host, port, username, password, path = sys.argv[1:]
name = os.path.basename(path)


def connect():
    return ConnectHandler(
        device_type="endace", host=host, port=int(port), username=username,
        password=password, fast_cli=True, global_delay_factor=0.1, allow_agent=False,
    )


transport = paramiko.Transport((host, int(port)))
transport.connect(username=username, password=password)
sftp = paramiko.SFTPClient.from_transport(transport)
sftp.chdir("/endace/packages")
sftp.put(path, name)
result = {"listing": sftp.listdir()}
transport.close()

conn = connect()
conn.enable(pattern="")
result["before"] = conn.send_command("show packages")
conn.config_mode()
conn.send_command("maintenance-mode noconfirm", expect_string=r"\(config\) # ")
result["install"] = conn.send_command(
    "package install " + name.removesuffix(".end"), expect_string=r"\(config\) # ")
result["packages"] = conn.send_command("show packages", expect_string=r"\(config\) # ")
result["capture_stopped"] = conn.send_command("show erfstream statistics", expect_string=r"\(config\) # ")
result["save"] = conn.send_command("configuration write", expect_string=r"\(config\) # ")
conn.write_channel("reload\n")
channel = conn.remote_conn
for _ in range(1000):
    if channel.closed or not channel.get_transport().is_active():
        break
    time.sleep(0.01)
result["cut"] = channel.closed or not channel.get_transport().is_active()

for attempt in range(200):
    try:
        conn = connect()
        break
    except Exception:  # whatever netmiko makes of a device that is booting
        time.sleep(0.05)
conn.enable(pattern="")
result["prompt"] = conn.find_prompt()
result["after"] = conn.send_command("show packages")
result["version"] = conn.send_command("show version")
result["capture"] = conn.send_command("show erfstream statistics")
conn.disconnect()
json.dump(result, sys.stdout)
