// Package schedule starts jobs by the clock. A schedule is a cron expression in a
// time zone and a request; each time that the expression names is an occurrence,
// and each occurrence is decided once: started, skipped, missed, merged into a
// later one, or failed.
//
// The ledger is authoritative. It holds the schedules, up to which time each has
// been decided, and what became of the occurrences; nothing that matters is in
// memory alone. It knows no operation: a request is JSON that it hands to the one
// way in (Jobs.Start), with a request id made of schedule and occurrence.
//
// # Once, whatever dies
//
// An occurrence is begun in two steps. The first writes down, in one transaction,
// that it is being started and that everything up to it is decided. The second
// starts the job, and writes down its id. A process that dies between the two
// starts the job again after its restart, under the same request id, which gives
// the job that is there already. So no occurrence is lost and none runs twice.
//
// # Clocks
//
// An occurrence is a wall-clock time in the schedule's zone. A time that the
// clocks leave out in spring runs at the moment when they are set forward; one
// that they show twice in autumn runs the first time only, except for a schedule
// of every hour (the hour field is *), which goes on by the hour (cron.go).
//
// A host's clock that is set back does not repeat occurrences: what is decided
// stays so. One that had been far ahead would leave a schedule with nothing to do
// until that time comes, so a schedule that is decided further than an hour ahead
// is brought back to now; the request ids keep what ran from running again.
package schedule
