package report

import "time"

// The reports, as a spec names them.
const (
	FilesystemReport   = "filesystem"
	RotationFileReport = "rotation-file"
	SoftwareReport     = "software"
)

// names lists the reports in the order in which they are told to people.
var names = []string{FilesystemReport, RotationFileReport, SoftwareReport}

// Filesystem is a row of the filesystem report. Sizes are bytes; a pointer is nil
// where the device prints no such figure.
type Filesystem struct {
	Device     string  `json:"device"`
	Filesystem *string `json:"filesystem"` // mount point
	TotalBytes *int64  `json:"total_bytes"`
	UsedBytes  *int64  `json:"used_bytes"`
	// UsableBytes is the part of the total that the system lets itself use; only
	// OSm prints it.
	UsableBytes *int64 `json:"usable_bytes"`
	// FreeBytes is what can still be written. df's "Available", which leaves out the
	// blocks kept for root, and may be negative when those are in use.
	FreeBytes *int64 `json:"free_bytes"`
	// UsedPercent is as printed, else used of total to one decimal.
	UsedPercent *float64 `json:"used_percent"`
	// AssumedUnit names the layout's unit when a size was printed without one.
	AssumedUnit *string   `json:"assumed_unit"`
	CollectedAt time.Time `json:"collected_at"` // UTC, to the second
}

// RotationFile is a row of the rotation-file report.
type RotationFile struct {
	Device           string  `json:"device"`
	Name             *string `json:"name"`
	UserLimitBytes   *int64  `json:"user_limit_bytes"`   // as ordered by the user; nil for none
	ActualLimitBytes *int64  `json:"actual_limit_bytes"` // rounded by the system to its blocks
	DiskUsageBytes   *int64  `json:"disk_usage_bytes"`
	// VisionRetentionSeconds is how far back the metadata reaches, which is not how
	// far back the packets do.
	VisionRetentionSeconds *int64    `json:"vision_retention_seconds"`
	VisionSizeBytes        *int64    `json:"vision_size_bytes"`
	CurrentSizeBytes       *int64    `json:"current_size_bytes"`
	Source                 *string   `json:"source"`
	AssumedUnit            *string   `json:"assumed_unit"`
	CollectedAt            time.Time `json:"collected_at"`
}

// Software is the one row of the software report for a device.
type Software struct {
	Device   string  `json:"device"`
	Platform string  `json:"platform"`
	Version  *string `json:"version"`
	Build    *string `json:"build"`
	// Hotfixes are as the device lists them, possibly none; nil where it does not
	// tell.
	Hotfixes     []string `json:"hotfixes"`
	ActiveVolume *string  `json:"active_volume"`
	// Volumes are the boot volumes, one entry for each blade; nil where the platform
	// has none.
	Volumes []Volume `json:"volumes"`
	// Maintenance is nil where the platform has no such mode or does not show it.
	Maintenance   *bool     `json:"maintenance"`
	FailoverState *string   `json:"failover_state"`
	CollectedAt   time.Time `json:"collected_at"`
}

// Volume is a boot volume of a BIG-IP. An empty volume has no product, version and
// build.
type Volume struct {
	Volume  *string `json:"volume"`
	Slot    *int64  `json:"slot"` // of the blade; nil on systems without blades
	Product *string `json:"product"`
	Version *string `json:"version"`
	Build   *string `json:"build"`
	Active  *bool   `json:"active"`
	Status  *string `json:"status"` // as printed: complete, installing 10.000 pct, ...
}
