# Follows a log through its rotations: what is new, once a second, from a file that
# is kept open, so that nothing is lost when its name goes to another one.
#
# file is the log; from is empty or the inode and offset to go on at. Before the
# bytes of each file goes a line of its own: token, inode, offset, and the offset
# from which on they are new.
file=$1 token=$2 inode=$3 offset=$4
LC_ALL=C
export LC_ALL

# place sets own, have and at of the open file: inode, size, position.
place() {
	set -- $(ls -iLn /proc/self/fd/3 2>/dev/null)
	own=$1 have=$6
	at=
	{ read -r word at rest < /proc/self/fdinfo/3; } 2>/dev/null
}

header() { printf '\n@%s %s %s %s\n' "$token" "$1" "$2" "$3"; }

# again opens what the log's name stands for now.
again() {
	[ -r "$file" ] && command exec 3<"$file" || return 1
	place
	header "$own" 0 0
}

if [ -n "$inode" ]; then
	old=$file
	set -- $(ls -iLn "$file" 2>/dev/null)
	if [ "$1" != "$inode" ] || [ "$6" -lt "$offset" ]; then
		old=$(find "${file%/*}/" -maxdepth 1 -inum "$inode" -type f 2>/dev/null | head -n 1)
	fi
	if [ -n "$old" ] && [ -r "$old" ] && command exec 3<"$old"; then
		place
		if [ "$have" -ge "$offset" ]; then
			header "$own" "$offset" "$offset"
			tail -c +$((offset + 1)) <&3
		fi
	else
		again || exit 1
	fi
else
	[ -r "$file" ] && command exec 3<"$file" || exit 1
	place
	since=$((have > 4096 ? have - 4096 : 0))
	size=$have
	header "$own" "$since" "$have"
	tail -c +$((since + 1)) <&3
	place
	[ -n "$at" ] && [ "$at" -lt "$size" ] && again
fi
while :; do
	cat <&3
	place
	set -- $(ls -iLn "$file" 2>/dev/null)
	if [ -n "$1" ] && [ "$1" != "$own" ]; then
		cat <&3
		again
		continue
	fi
	[ -n "$at" ] && [ "$have" -lt "$at" ] && again
	sleep 1
done
