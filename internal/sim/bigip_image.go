package sim

import (
	"crypto/md5" //nolint:gosec // what the device's own list shows
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
)

const imageDir = "/shared/images"

// image is a software image as its name describes it.
type image struct {
	file           string
	hotfix         bool
	version, build string
	edition        string
}

var (
	baseImage   = regexp.MustCompile(`^BIGIP-([0-9]+(?:\.[0-9]+)+)-([0-9]+(?:\.[0-9]+)+)\.iso$`)
	dottedImage = regexp.MustCompile(`^(Hotfix-)?BIGIP-([0-9]+(?:\.[0-9]+)+)\.([0-9]+\.[0-9]+\.[0-9]+)(?:-(HF[0-9]+|ENG))?\.iso$`)
)

// parseImage reads an image's name: BIGIP-13.1.1.3-0.0.1.iso, or version and
// build joined by dots as in Hotfix-BIGIP-16.1.2.2.0.12.28-ENG.iso.
func parseImage(file string) (image, bool) {
	if m := baseImage.FindStringSubmatch(file); m != nil {
		return image{file: file, version: m[1], build: m[2], edition: "Final"}, true
	}
	m := dottedImage.FindStringSubmatch(file)
	if m == nil || (m[1] != "") != (m[4] != "") {
		return image{}, false
	}
	i := image{file: file, hotfix: m[1] != "", version: m[2], build: m[3], edition: "Final"}
	switch {
	case m[4] == "ENG":
		i.edition = "Engineering Hotfix"
	case i.hotfix:
		i.edition = "Hotfix " + m[4]
	}
	return i, true
}

// arrived marks the moment at which a file got its name.
func (d *device) arrivedFile(name string) {
	if path.Dir(path.Clean(name)) != imageDir {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.images == nil {
		d.images = map[string]time.Time{}
	}
	d.images[path.Base(name)] = time.Now()
}

// imagesOf lists the images that the device knows: those it has had long enough
// to hash.
func imagesOf(d *device, hotfixes bool) []image {
	entries, err := d.files.readDir(imageDir)
	if err != nil {
		return nil // the directory was removed: no images
	}
	settle := d.ordered.Load().change.imageTime
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []image
	for _, e := range entries {
		i, ok := parseImage(e.Name())
		if ok && i.hotfix == hotfixes && e.Type().IsRegular() && time.Since(d.images[e.Name()]) >= settle {
			list = append(list, i)
		}
	}
	return list
}

// listImages is list sys software image and hotfix.
func listImages(d *device, kind string, names []string) (text string, items int, ok bool) {
	var b strings.Builder
	for _, i := range imagesOf(d, kind == "hotfix") {
		if len(names) > 0 && i.file != names[0] {
			continue
		}
		items++
		sum, size := imageDigest(d, i.file)
		fmt.Fprintf(&b, "sys software %s %s {\n    build %s\n    checksum %s\n    file-size \"%d MB\"\n    product BIG-IP\n    verified yes\n    version %s\n}\n",
			kind, i.file, i.build, sum, (size+1<<20-1)>>20, i.version)
	}
	return b.String(), items, len(names) == 0 || items > 0
}

// showImages is show sys software image and hotfix.
func showImages(d *device, kind string) string {
	rows := [][]string{{"Image", "Product", "Version", "Build"}}
	for _, i := range imagesOf(d, kind == "hotfix") {
		rows = append(rows, []string{i.file, "BIG-IP", i.version, i.build})
	}
	return table("Sys::Software "+strings.ToUpper(kind[:1])+kind[1:], 60) + osmTable(rows) + "\n"
}

func imageDigest(d *device, file string) (sum string, size int64) {
	f, err := d.files.content(imageDir + "/" + file)
	if err != nil {
		return "", 0 // gone meanwhile
	}
	defer func() { _ = f.Close() }() // read-only
	h := md5.New()                   //nolint:gosec // as above
	size, err = io.Copy(h, f)
	if err != nil {
		return "", size
	}
	return hex.EncodeToString(h.Sum(nil)), size
}
