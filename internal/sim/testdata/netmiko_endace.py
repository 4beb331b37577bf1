"""Drives a simulated probe with netmiko's own endace driver.

usage: netmiko_endace.py HOST PORT USERNAME PASSWORD SECRET
An empty SECRET means that enable mode asks for none.
Prints one JSON object with what each step gave.
"""
import json
import sys

from netmiko import ConnectHandler

host, port, username, password, secret = sys.argv[1:]
conn = ConnectHandler(
    device_type="endace", host=host, port=int(port), username=username,
    password=password, secret=secret, fast_cli=True, global_delay_factor=0.1, allow_agent=False,
)
result = {"prompt": conn.find_prompt()}
# By default the driver expects no password; an operator who has one says so.
conn.enable(pattern="ssword" if secret else "")
result["enable_prompt"] = conn.find_prompt()
result["files"] = conn.send_command("show files system")
result["rotation"] = conn.send_command("show erfstream rotation-file")
result["packages"] = conn.send_command("show packages")
conn.config_mode()
result["config_mode"] = conn.check_config_mode()
result["config_prompt"] = conn.find_prompt()
result["save"] = conn.save_config()
conn.exit_config_mode()
result["left_config"] = not conn.check_config_mode()
conn.config_mode()
result["maintenance"] = conn.send_command("maintenance-mode noconfirm", expect_string=r"\(config\) # ")
result["maintenance_prompt"] = conn.find_prompt()
conn.disconnect()
json.dump(result, sys.stdout)
