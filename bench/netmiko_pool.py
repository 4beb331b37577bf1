"""A pool of netmiko connections that runs the report's command on each device.

Reads "host port user password" lines from standard input; prints the number of
bytes that the devices answered.
"""
import sys
from concurrent.futures import ThreadPoolExecutor

from netmiko import ConnectHandler


def one(line):
    host, port, user, password = line.split()
    conn = ConnectHandler(device_type="endace", host=host, port=int(port), username=user, password=password)
    conn.enable()
    out = conn.find_prompt() + "\n" + conn.send_command("show files system")
    conn.disconnect()
    return len(out)


with ThreadPoolExecutor(int(sys.argv[1])) as pool:
    print(sum(pool.map(one, sys.stdin.read().splitlines())))
