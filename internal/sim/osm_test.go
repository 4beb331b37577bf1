package sim_test

import (
	"testing"
)

func TestSmoke(t *testing.T) {
	f := startFleet(t, quick())
	for _, d := range f.Devices() {
		t.Log(d)
	}
	x := openShell(t, login(t, f, "lon-probe-01"), 200, 50)
	t.Logf("%q", x.expect(`lon-probe-01 > \z`))
	t.Logf("%s", x.do("enable", "lon-probe-01 # "))
	t.Logf("%s", x.do("show files system", "lon-probe-01 # "))
	t.Logf("%s", x.do("show erfstream rotation-file", "lon-probe-01 # "))
	t.Logf("%s", x.do("show foo", "lon-probe-01 # "))
	out, errs, st := execute(t, login(t, f, "lon-ltm-01"), "df -P; df; tmsh show sys version; tmsh show sys software status; tmsh show cm sync-status; tmsh list ltm virtual; foo")
	t.Log(out, errs, st)
	out, errs, st = execute(t, login(t, f, "lon-cap-01"), "df -P; df -hT; uname -a; cat /etc/os-release | head -n 2; pwd; for i in 1 2; do echo $i; done; date; uptime; ls -la /")
	t.Log(out, errs, st)
}
