# What the device says before anything is captured: $1 is the interface, $2 the
# filter or nothing. Each line of an answer has its question before it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL
tag() {
	while IFS= read -r line; do
		printf '%s %s\n' "$1" "$line"
	done
}
ask() {
	what=$1
	shift
	{
		"$@" 2>&1 < /dev/null
		printf '\n@status %s\n' "$?"
	} | tag "$what"
}
printf 'connection %s\n' "$SSH_CONNECTION"
if command -v tcpdump > /dev/null 2>&1; then
	echo 'found yes'
	ask help tcpdump -h
	ask list tcpdump -D
	ask open tcpdump -i "$1" -d
	[ -z "$2" ] || ask filter tcpdump -i "$1" -d "$2"
else
	echo 'found no'
fi
