// Package shell makes a command line out of a terminal session: it brings it to
// its first prompt, moves it between modes, types commands and returns their
// complete output. It is the only package that knows scrapligo.
//
// The device is authoritative about what it prints, its platform's
// device.Definition about what that means. scrapligo has the graph of privilege
// levels and the walk through it, and sends every line; what it does not have is
// the last word on whether an answer is complete. It runs over our transport
// (adapter.go), which gives it nothing before an answer is complete: a write of
// the line end blocks, without polling, until then. The text itself never goes
// through scrapligo, which would take trailing spaces and prompt-like lines out
// of it; the transport keeps it, and scrapligo sees the echo and the prompt.
//
// # When an answer is complete
//
// An answer begins with the echo of the line that was typed and ends with the
// prompt, at the end of everything received. A prompt is a line that matches a
// mode's pattern and is, apart from the parts that the definition lets vary,
// the prompt learned at login. That alone is no proof: output may hold the very
// same line, and a read may end just there.
//
// So the first prompt, and the answer to every command of a caller, is confirmed
// before it is believed. At the supposed prompt a marked return is typed: some
// blanks, in a number that changes each time, and a line end. A device that waits
// there shows the prompt with just these blanks behind it, and then one more
// prompt. A device that was still writing writes on instead; the supposed prompt
// is output like the rest, and the mark turns up when the command line comes to
// read it, at the true end. Either way output ends where the marked line begins.
// This costs one turn and no waiting, whatever the output looks like and however
// it is cut into reads.
//
// Where the terminal itself echoes what is typed while a command runs, a mark
// stands in the output too, from where it is taken out again. Such an echo does
// not pass for the command line's: behind it comes the end of the line that was
// supposed to be the prompt, and then the next prompt; how many line ends a prompt
// has before it is learned at login.
//
// A device that does not echo blanks is found out at login. There prompts are
// counted, two returns are typed, and it must be silent for twice the longest
// pause that it has made in this answer.
//
// Steps of our own behind the login, whose output nobody gets (changing modes,
// turning the pager off), need no confirmation: should their answer have been cut
// short, the next line's echo does not come first and the shell fails. For the
// same reason the rest of one answer is not taken for the next one's.
//
// After a timeout, a cancelled call or a broken connection the shell is
// discarded: a late answer has nowhere to arrive.
package shell
