"""Runs Python's TextFSM for the tests: a JSON request a line, a JSON answer a line.

request: {"template": text, "inputs": [text...]} or {"template": text, "file": path}
answer:  {"error": text} when the template is refused, else
         {"header": [name...], "results": [{"rows": [[value...]...]} or {"error": text}...]};
         with "file": {"rows": count, "seconds": time in ParseText alone}
"""
import io
import json
import sys
import time

import textfsm


def answer(request):
    try:
        fsm = textfsm.TextFSM(io.StringIO(request["template"]))
    except Exception as error:  # re.error and IndexError too: a refusal is a refusal
        return {"error": "%s: %s" % (type(error).__name__, error)}
    if "file" in request:
        with open(request["file"], encoding="utf-8", newline="") as source:
            text = source.read()
        begin = time.perf_counter()
        rows = fsm.ParseText(text)
        return {"rows": len(rows), "seconds": time.perf_counter() - begin}
    results = []
    for text in request["inputs"]:
        fsm.Reset()
        try:
            results.append({"rows": [list(row) for row in fsm.ParseText(text)]})
        except Exception as error:
            results.append({"error": "%s: %s" % (type(error).__name__, error)})
    return {"header": fsm.header, "results": results}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
