"""Times Python TextFSM: template, file. Prints seconds and the number of rows."""
import sys
import time

import textfsm

with open(sys.argv[1]) as f:
    fsm = textfsm.TextFSM(f)
with open(sys.argv[2]) as f:
    text = f.read()
begin = time.perf_counter()
rows = fsm.ParseText(text)
print(time.perf_counter() - begin, len(rows))
