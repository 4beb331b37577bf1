// Package notify tells people and programs what happened: messages by rules to
// webhooks and syslog, and the results of schedules to webhooks and directories.
//
// The configuration is authoritative about who is told what, the ledger about what
// is still to be told. A message is put into the outbox in the transaction of what
// it tells (Tell, Deliver), so that there is neither a message without a happening
// nor a happening without its message. One worker for each receiver takes them out
// in order: a message leaves the outbox once the receiver has taken it, so each is
// delivered at least once. A process that dies between the two sends it again with
// the same id, which is how a receiver knows it.
//
// The same happening is told once to a receiver, however often it is derived: ids
// that were put into the outbox are remembered for more than a year.
//
// A receiver that cannot be reached is tried again for a week, at longer and longer
// intervals; one that refuses a message does not hold up those behind it.
package notify
