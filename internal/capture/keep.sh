# The device's side of a capture: POSIX sh, /proc and nothing else that a small
# Linux may lack. keep.go says what it promises. Lines that begin with # are not
# sent.
#
# $script is this text; the arguments are a verb and what belongs to it.
umask 077 2>/dev/null
set -f
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL
bases='/dev/shm /run /tmp /var/tmp'
uid=$(id -u)
boot=-
{ read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null

# clock sets now: whole seconds since boot, which no change of the date moves.
clock() {
	{ read -r now rest < /proc/uptime; } 2>/dev/null
	now=${now%%.*}
}

# born sets started, the time at which a process began, or fails when it is gone.
born() {
	line=
	{ read -r line < "/proc/$1/stat"; } 2>/dev/null
	[ -n "$line" ] || return 1
	set -- ${line##*')'}
	case $1 in Z|X|'') return 1 ;; esac
	shift 19
	started=$1
}

# record reads what is written about the run: pid began bootid kind until lease.
record() {
	{ read -r pid began bootid kind until lease rest < "$run.pid"; } 2>/dev/null
}

# alive tells whether the process that was recorded is there. One that has its
# PID now has another time of birth.
alive() {
	record && [ "$bootid" = "$boot" ] && born "$pid" && [ "$started" = "$began" ]
}

# finish ends the process of the run. The mark comes first: a process that is not
# recorded yet looks for it after it has recorded itself, and does not begin.
finish() {
	{ echo > "$run.stop"; } 2>/dev/null
	for signal in INT TERM TERM KILL; do
		alive || return 0
		kill -s "$signal" "$pid" 2>/dev/null
		waited=0
		while [ "$waited" -lt 10 ] && alive; do
			sleep 0.1 2>/dev/null || { sleep 1; waited=$((waited + 4)); }
			waited=$((waited + 1))
		done
	done
	! alive
}

# restore runs what puts the device back as it was; whoever can rename the file
# is the one that does. It stays for the next one when the command fails.
restore() {
	mv "$run.after" "$run.restoring" 2>/dev/null || return 0
	if sh "$run.restoring" > /dev/null 2>&1; then
		rm -f "$run.restoring"
	else
		mv "$run.restoring" "$run.after" 2>/dev/null
		return 1
	fi
}

# forget removes what is known of a run that has ended.
forget() {
	restore || return 1
	rm -f "$run.pid" "$run.beat" "$run.stop" "$run.why"
}

# private finds a place for the files of a run that nobody else can write to, in
# memory where there is one.
private() {
	for base in $bases; do
		dir=$base/capfleet-$uid
		[ -d "$base" ] || continue
		[ -d "$dir" ] || mkdir "$dir" 2>/dev/null || continue
		[ -O "$dir" ] && [ ! -L "$dir" ] || continue
		run=$dir/$1
		{ echo "$now" > "$run.beat"; } 2>/dev/null && [ -s "$run.beat" ] && return 0
	done
	return 1
}

refuse() {
	printf '\n@capfleet refused %s\n' "$*" >&2
	exit 125
}

# clear is what the guard does last. A live run has a shell that waits for its
# input to end, and tidies up then; after a silent cut that can take hours.
clear() {
	restore
	[ "$verb" = live ] || return 0
	sleep "$tick"
	forget
	born "$self" && [ "$started" = "$mine" ] && kill "$self"
}

# A function with redirections of its own would keep the old ones open in dash, so
# it is called in braces that have them.
#
# guard ends the run when its time is over, when nothing was heard for longer
# than its lease, or when the disk is nearly full.
guard() {
	while :; do
		sleep "$tick"
		clock
		if record; then
			alive || { clear; return 0; }
		else
			[ -e "$run.beat" ] || return 0
		fi
		beat=$now
		{ read -r beat < "$run.beat"; } 2>/dev/null
		why=
		[ "$now" -ge "$limit" ] && why=limit
		[ "$hold" -gt 0 ] && [ $((now - beat)) -gt "$hold" ] && why=lease
		if [ "$floor" -gt 0 ]; then
			set -- $(df -P -k "$place" 2>/dev/null | tail -n 1)
			[ -n "$4" ] && [ "$4" -lt "$floor" ] && why=floor
		fi
		[ -n "$why" ] || continue
		{ echo "$why" > "$run.why"; } 2>/dev/null
		finish
		clear
		return 0
	done
}

# begin does what live and ring have in common, up to the guard.
begin() {
	id=$1 seconds=$2 hold=$3 tick=$4 floor=$5 place=$6 before=$7 after=$8
	clock
	limit=$((now + seconds))
	[ "$boot" != - ] && [ -n "$now" ] || refuse proc
	command -v "$9" > /dev/null 2>&1 || refuse missing
	private "$id" || refuse nowhere
	if [ -n "$after" ]; then
		{ printf '%s\n' "$after" > "$run.after"; } 2>/dev/null && [ -s "$run.after" ] || refuse nowhere
	fi
	if [ -n "$before" ] && ! eval "$before" > /dev/null 2>&1; then
		restore
		refuse before
	fi
}

verb=$1
shift
case $verb in
live)
	begin "$@"
	shift 8
	{
		sh -c 'script=$1; shift; eval "$script"' capfleet "$script" become "$run" "$verb" "$limit" "$hold" "$@" < /dev/null
		status=$?
		why=
		{ read -r why < "$run.why"; } 2>/dev/null
		printf '\n@capfleet ended %s %s\n' "$status" "$why" >&2
	} &
	middle=$!
	read -r self rest < /proc/self/stat
	born "$self" && mine=$started
	{ guard; } < /dev/null > /dev/null 2>&1 &
	guard=$!
	exec > /dev/null 2>&1
	while read -r heard; do
		clock
		echo "$now" > "$run.beat"
	done
	finish
	wait "$middle"
	kill "$guard"
	forget
	exit 0
	;;
ring)
	log=$1
	shift
	begin "$@"
	shift 8
	{
		sh -c 'script=$1; shift; eval "$script"' capfleet "$script" become "$run" "$verb" "$limit" "$hold" "$@"
		printf '\n@capfleet ended %s\n' "$?" >&2
	} < /dev/null >> "$log" 2>&1 &
	{ guard; } < /dev/null > /dev/null 2>&1 &
	printf '@capfleet began %s\n' "$run"
	exit 0
	;;
become)
	# It becomes the command, so what is recorded is the command before it exists.
	run=$1 kind=$2 limit=$3 hold=$4
	shift 4
	read -r self rest < /proc/self/stat
	born "$self"
	{ echo "$self $started $boot $kind $limit $hold" > "$run.pid"; } 2>/dev/null
	alive || refuse nowhere
	[ -e "$run.stop" ] && exit 0
	exec "$@"
	;;
reap | list)
	# What is named is ended, and what should have ended and did not.
	clock
	for base in $bases; do
		dir=$base/capfleet-$uid
		[ -d "$dir" ] && [ -O "$dir" ] && [ ! -L "$dir" ] || continue
		set +f
		for file in "$dir"/*.pid "$dir"/*.after; do
			set -f
			[ -e "$file" ] || continue
			run=${file%.*}
			name=${run##*/}
			case $file in *.after) [ -e "$run.pid" ] && continue ;; esac
			pid=0 kind=- until=0 lease=0
			record
			state=gone
			alive && state=alive
			why=-
			{ read -r why < "$run.why"; } 2>/dev/null
			beat=0
			{ read -r beat < "$run.beat"; } 2>/dev/null
			overdue=no
			[ "$state" = alive ] && [ "$now" -gt $((until + 30)) ] && overdue=yes
			[ "$lease" -gt 0 ] && [ $((now - beat)) -gt $((lease + lease + 10)) ] && overdue=yes
			[ "$state" = gone ] && [ "$kind" != ring ] && [ $((now - beat)) -gt 30 ] && overdue=yes
			for id; do
				[ "$id" = "$name" ] && overdue=yes
			done
			if [ "$verb" = reap ] && [ "$overdue" = yes ]; then
				[ "$state" = alive ] && state=ended
				finish || state=stuck
				forget || state=unrestored
			fi
			printf '@capfleet run %s %s %s %s %s %s\n' "$name" "$pid" "$kind" "$state" "$why" "$run"
		done
	done
	;;
esac
