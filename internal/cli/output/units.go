package output

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// bytesPerGB is the GB of the report's headings: 10^9, as the devices and the
// spreadsheets made from them have it.
const bytesPerGB = 1_000_000_000

// exactGB gives bytes as GB without rounding: 1500000000 is "1.5".
func exactGB(bytes int64) string {
	sign := ""
	if bytes < 0 {
		sign = "-"
	}
	whole, part := bytes/bytesPerGB, bytes%bytesPerGB
	// The quotient and the rest of a negative number are negative or zero, and far
	// from the one number that has no positive.
	text := sign + strconv.FormatInt(max(whole, -whole), 10)
	if part == 0 {
		return text
	}
	return text + "." + strings.TrimRight(fmt.Sprintf("%09d", max(part, -part)), "0")
}

// tableGB gives bytes as GB with one decimal. A size that is there and would
// round to nothing is "<0.1": a figure of a person's table is never a wrong zero.
func tableGB(bytes int64) string {
	text := strconv.FormatFloat(float64(bytes)/bytesPerGB, 'f', 1, 64)
	switch {
	case bytes > 0 && text == "0.0":
		return "<0.1"
	case text == "-0.0":
		return ">-0.1"
	}
	return text
}

// percent gives a share as printed in wide, and in whole numbers in a table, where
// what is not quite full is never shown as full.
func percent(f float64, s style) string {
	if s == inTable {
		whole := math.Round(f)
		if f < 100 && whole == 100 {
			whole = 99
		}
		f = whole
	}
	return strconv.FormatFloat(f, 'f', -1, 64) + "%"
}

// clock gives seconds as devices print a retention: "12d 04:11:00", "04:11:00".
func clock(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	days := d / (24 * time.Hour)
	rest := d % (24 * time.Hour)
	text := fmt.Sprintf("%02d:%02d:%02d", rest/time.Hour, rest%time.Hour/time.Minute, rest%time.Minute/time.Second)
	if days > 0 {
		text = fmt.Sprintf("%dd %s", days, text)
	}
	return sign + text
}

// Short gives a duration in its two largest units, for tables and progress:
// "12d 4h", "4h 11m", "3m 20s", "1.4s".
func Short(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	switch {
	case d < 10*time.Second && d%time.Second != 0:
		return sign + strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%s%ds", sign, d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%s%dm %ds", sign, d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%s%dh %dm", sign, d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%s%dd %dh", sign, d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
}
