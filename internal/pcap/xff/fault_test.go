//go:build unix

package xff

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// The search in a file that is cut meanwhile ends with a panic that Scan can survive.
func TestVectorsSurviveFileThatShrinks(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "shrinks"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size := 4 * os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if err := f.Truncate(int64(size / 2)); err != nil {
		t.Fatal(err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault, ok := recover().(interface {
			runtime.Error
			Addr() uintptr
		}); !ok {
			t.Errorf("%v", fault)
		}
	}()
	newNames(Headers()).next(b, 0)
	t.Error("the rest of the file is still there")
}
