"""Drives a simulated BIG-IP with netmiko's own f5_tmsh driver.

usage: netmiko_f5.py HOST PORT USERNAME PASSWORD
Prints one JSON object with what each step gave.
"""
import json
import sys

from netmiko import ConnectHandler

host, port, username, password = sys.argv[1:]
conn = ConnectHandler(
    device_type="f5_tmsh", host=host, port=int(port), username=username,
    password=password, fast_cli=True, global_delay_factor=0.1, allow_agent=False,
)
result = {"prompt": conn.find_prompt()}
result["version"] = conn.send_command("show sys version")
result["software"] = conn.send_command("show sys software status")
result["db"] = conn.send_command("list sys db")
result["df"] = conn.send_command("run /util bash -c 'df -P'")
conn.disconnect()
json.dump(result, sys.stdout)
