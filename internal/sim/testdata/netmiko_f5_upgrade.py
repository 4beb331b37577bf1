"""Upgrades a simulated BIG-IP with netmiko and paramiko alone.

usage: netmiko_f5_upgrade.py HOST PORT USERNAME PASSWORD IMAGE VERSION
Prints one JSON object with what each step gave.
"""
import json
import os
import sys
import time

import paramiko
from netmiko import ConnectHandler

host, port, username, password, path, version = sys.argv[1:]
name = os.path.basename(path)


def connect():
    return ConnectHandler(
        device_type="f5_tmsh", host=host, port=int(port), username=username,
        password=password, fast_cli=True, global_delay_factor=0.1, allow_agent=False,
    )


transport = paramiko.Transport((host, int(port)))
transport.connect(username=username, password=password)
paramiko.SFTPClient.from_transport(transport).put(path, "/shared/images/" + name)
transport.close()

conn = connect()


def tmsh(line):
    return conn.send_command(line, expect_string=r"\(tmos\)#")


def wait(line, want):
    seen = ""
    for _ in range(400):
        seen = tmsh(line)
        if want(seen):
            return seen
        time.sleep(0.02)
    return seen


result = {"image": wait("list sys software image", lambda s: name in s)}
result["ucs"] = tmsh("save sys ucs before")
result["verify"] = tmsh("load sys config verify")
result["install"] = tmsh("install sys software image %s volume HD1.3" % name)
rows = []


def complete(status):
    row = " ".join(next(line for line in status.splitlines() if line.startswith("HD1.3")).split())
    if not rows or rows[-1] != row:
        rows.append(row)
    return version in row and " complete" in row


wait("show sys software status", complete)
result["rows"] = rows
conn.write_channel("reboot volume HD1.3\n")
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
result["version"] = tmsh("show sys version")
result["status"] = tmsh("show sys software status")
conn.disconnect()
json.dump(result, sys.stdout)
