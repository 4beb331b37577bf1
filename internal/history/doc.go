// Package history remembers what reports said about storage and says what it leads
// to: how far packets reach back, how that changes, and when a limit is crossed.
//
// # What is kept
//
// A series is a ring (a rotation file) or a file system of a device. Of each it
// keeps one point a day, the last of the UTC day, for as long as it is told to.
// Points of 32 days are one value in the ledger, each figure as its difference from
// the day before (block.go): a ring of two years takes about 25 kB. The ledger is
// authoritative; a point that is added twice is there once.
//
// # What is said about a ring
//
// While it fills, its growth tells when it will be full and, at that rate, how far
// back it will reach. Once it is full its size never moves again and tells nothing;
// then it is the retention that the device prints, if it prints one, whose trend is
// followed. Where neither tells anything a figure is null and the reason is given:
// too little data, a ring that does not grow, a full ring without a retention.
//
// Forecasts come from a regression of the logarithm on level, trend and day of the
// week with autocorrelated errors (trend.go); each has the interval that holds the
// truth in nine cases of ten, which is tested on generated histories.
package history
