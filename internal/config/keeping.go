package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Backup says when the ledger is copied, and where to.
type Backup struct {
	Dir      string        // default: backups in the state directory
	Interval time.Duration // 0 is never
	Keep     int
}

// Retention says what is kept; 0 is no bound.
type Retention struct {
	Age           time.Duration // of a job since it finished
	Jobs          int
	Bytes         int64 // of the finished jobs in the ledger
	ArtifactAge   time.Duration
	ArtifactBytes int64
	ArtifactQuota int64 // nothing more is kept beyond it
	AuditAge      time.Duration
	HistoryAge    time.Duration // of the points of rings and file systems; 0 is two years
}

// The defaults keep a season of nightly reports, and a week of backups.
func defaultBackup() Backup { return Backup{Interval: 24 * time.Hour, Keep: 7} }

func defaultRetention() Retention {
	const day = 24 * time.Hour
	return Retention{Age: 90 * day, Jobs: 10_000, Bytes: 2 << 30, ArtifactAge: 90 * day, ArtifactBytes: 10 << 30, ArtifactQuota: 100 << 30, AuditAge: 730 * day, HistoryAge: 732 * day}
}

const defaultMinFree = 256 << 20

func duration(field func(*Settings) *time.Duration) value {
	return value{
		set:  func(s *Settings, v string) (err error) { *field(s), err = parseDuration(v); return err },
		show: func(s *Settings) string { return FormatDuration(*field(s)) },
	}
}

func size(field func(*Settings) *int64) value {
	return value{
		set:  func(s *Settings, v string) (err error) { *field(s), err = parseSize(v); return err },
		show: func(s *Settings) string { return FormatSize(*field(s)) },
	}
}

func count(least int, field func(*Settings) *int) value {
	return value{
		set:  func(s *Settings, v string) (err error) { *field(s), err = parseCount(v, least); return err },
		show: func(s *Settings) string { return FormatCount(*field(s)) },
	}
}

// keeping lists the settings about what is kept.
func keeping() []Setting {
	return []Setting{
		{"backup.dir", "backup-dir", "FLEETD_BACKUP_DIR", "directory of the ledger's backups", true,
			text(func(s *Settings) *string { return &s.Backup.Dir })},
		{"backup.interval", "backup-interval", "FLEETD_BACKUP_INTERVAL", "time between backups, or off", false,
			duration(func(s *Settings) *time.Duration { return &s.Backup.Interval })},
		{"backup.keep", "backup-keep", "FLEETD_BACKUP_KEEP", "backups that are kept", false,
			count(1, func(s *Settings) *int { return &s.Backup.Keep })},
		{"retention.age", "retention-age", "FLEETD_RETENTION_AGE", "how long a finished job is kept, or off", false,
			duration(func(s *Settings) *time.Duration { return &s.Retention.Age })},
		{"retention.jobs", "retention-jobs", "FLEETD_RETENTION_JOBS", "finished jobs that are kept, or off", false,
			count(0, func(s *Settings) *int { return &s.Retention.Jobs })},
		{"retention.bytes", "retention-bytes", "FLEETD_RETENTION_BYTES", "what finished jobs may take in the ledger, or off", false,
			size(func(s *Settings) *int64 { return &s.Retention.Bytes })},
		{"retention.artifact_age", "retention-artifact-age", "FLEETD_RETENTION_ARTIFACT_AGE", "how long a file is kept when its job is gone", false,
			duration(func(s *Settings) *time.Duration { return &s.Retention.ArtifactAge })},
		{"retention.artifact_bytes", "retention-artifact-bytes", "FLEETD_RETENTION_ARTIFACT_BYTES", "what artifacts may take before those of removed jobs go, or off", false,
			size(func(s *Settings) *int64 { return &s.Retention.ArtifactBytes })},
		{"retention.artifact_quota", "retention-artifact-quota", "FLEETD_RETENTION_ARTIFACT_QUOTA", "what artifacts may take at all; more is refused, or off", false,
			size(func(s *Settings) *int64 { return &s.Retention.ArtifactQuota })},
		{"retention.audit_age", "retention-audit-age", "FLEETD_RETENTION_AUDIT_AGE", "how long it is remembered who changed what, or off", false,
			duration(func(s *Settings) *time.Duration { return &s.Retention.AuditAge })},
		{"retention.history_age", "retention-history-age", "FLEETD_RETENTION_HISTORY_AGE", "how long the history of storage is kept", false,
			duration(func(s *Settings) *time.Duration { return &s.Retention.HistoryAge })},
		{"min_free", "min-free", "FLEETD_MIN_FREE", "free space below which no new work is accepted, or off", false,
			size(func(s *Settings) *int64 { return &s.MinFree })},
	}
}

// off turns a bound off.
const off = "off"

// parseDuration reads a Go duration, or whole days as in 90d.
func parseDuration(v string) (time.Duration, error) {
	if v == off {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(v, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(v); err == nil && d >= 0 {
		return d, nil
	}
	return 0, errors.New("a time such as 90d, 12h or 30m is expected, or off")
}

// parseSize reads a number of bytes with a unit: KiB, MiB, GiB, TiB, or kB, MB,
// GB, TB for powers of ten.
func parseSize(v string) (int64, error) {
	if v == off {
		return 0, nil
	}
	digits := strings.TrimRight(v, "kKMGTiB ")
	factor, ok := map[string]int64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[strings.TrimSpace(v[len(digits):])]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, errors.New("a size such as 2GiB or 500MB is expected, or off")
	}
	return n * factor, nil
}

func parseCount(v string, least int) (int, error) {
	const most = 10_000_000
	if v == off && least == 0 {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("a number from 1 to %d is expected", most)
	}
	return n, nil
}

// FormatDuration writes a duration as it may be given.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return off
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}

// FormatSize writes a number of bytes in the largest unit that divides it.
func FormatSize(n int64) string {
	if n == 0 {
		return off
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && n%1024 == 0 {
		n /= 1024
		i++
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// FormatCount writes a number as it may be given.
func FormatCount(n int) string {
	if n == 0 {
		return off
	}
	return strconv.Itoa(n)
}
