package sim_test

import (
	"os/exec"
	"strings"
	"testing"

	"capfleet/internal/sim"
)

// keepsOpen is what scripts do with a file that they hold open while its name goes to
// another one.
const keepsOpen = `
mkdir place && cd place
echo one > l
exec 3<l
cat <&3
echo two >> l
cat <&3
read name at < /proc/self/fdinfo/3
echo "$name $at"
mv l l.1
echo three > l
number() { set -- $(ls -iLn "$1"); echo "$1"; }
[ "$(number l)" = "$(number l.1)" ] || echo another
[ "$(number /proc/self/fd/3)" = "$(number l.1)" ] && echo the same
set -- $(ls -iLn /proc/self/fd/3)
echo "$6 bytes"
find ./ -maxdepth 1 -inum "$(number l.1)" -type f
find . -name 'l*' -type f | wc -l
tail -c +3 < l
command exec 3<l && cat <&3
cat <&3
(exec 3<l; cat <&3)
exec 3<&-
echo end
`

// Files that a script holds open are read on as by a shell that we did not write.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "dash")
	cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader(keepsOpen)
	want, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, want)
	}
	f := startFleet(t, sim.Options{Devices: 12})
	out, errs, status := execute(t, login(t, f, "lon-cap-01"), keepsOpen)
	if out != string(want) || status != 0 {
		t.Errorf("status %d, %s\n%s\nwant\n%s", status, errs, out, want)
	}
}

// Room is taken and given back by what is written and removed, and df tells of it.
func TestDiskFills(t *testing.T) {
	t.Parallel()
	f := startFleet(t, sim.Options{Devices: 12})
	c := login(t, f, "lon-cap-01")
	free := func() string {
		out, _, _ := execute(t, c, "df -P -k /var/tmp | { read h; read d t u a r; echo $a; }")
		return strings.TrimSpace(out)
	}
	before := free()
	order(t, f, "lon-cap-01", "disk_full=1024000")
	if got := free(); got != "1000" {
		t.Errorf("%s KiB are free", got)
	}
	// 24 bytes of a header, then 16 and 60 for each packet.
	if out, errs, status := execute(t, c, "tcpdump -i eth0 -U -c 10 -w /var/tmp/x arp"); status != 0 {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	if got := free(); got != "999" {
		t.Errorf("%s KiB are free", got)
	}
	if _, _, status := execute(t, c, "rm /var/tmp/x"); status != 0 || free() != "1000" {
		t.Errorf("%s KiB are free", free())
	}
	order(t, f, "lon-cap-01", "disk_full=1000")
	out, errs, status := execute(t, c, "tcpdump -i eth0 -U -c 100 -w /var/tmp/x arp; wc -c /var/tmp/x")
	if !strings.Contains(errs, "No space left on device") || !strings.HasPrefix(out, "1000 ") || status != 0 {
		t.Errorf("%d %s%s", status, out, errs)
	}
	order(t, f, "lon-cap-01", "none")
	if got := free(); got != before {
		t.Errorf("%s KiB are free, %s were", got, before)
	}
	order(t, f, "lon-cap-01", "disk_fills=100TB")
	eventually(t, "a full disk", func() bool { return free() == "0" })
}
