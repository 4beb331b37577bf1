package ansible

import (
	"regexp"
	"strings"
)

// jumpTarget is user@host or user@host:port.
var jumpTarget = regexp.MustCompile(`^[^@\s,]+@(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?$`)

// jump finds a jump host in the arguments that Ansible gives to ssh: -J, ProxyJump,
// or a ProxyCommand that is ssh -W. Anything else in there is noted; what leads to
// the host another way leaves the host out, since it could not be reached.
func (c *converter) jump(r *reader, l login) string {
	var found string
	for _, name := range []string{"ansible_ssh_common_args", "ansible_ssh_extra_args"} {
		text := r.text(name)
		if text == "" {
			continue
		}
		args, err := words(text)
		if err != nil {
			r.leave("%s: %v", name, err)
			return ""
		}
		for i := 0; i < len(args); i++ {
			option, value := "", args[i]
			switch {
			case value == "-J" && i+1 < len(args):
				option, value, i = "proxyjump", args[i+1], i+1
			case value == "-o" && i+1 < len(args):
				option, value, i = "-o", args[i+1], i+1
			case strings.HasPrefix(value, "-o") && len(value) > 2:
				option, value = "-o", value[2:]
			}
			if option == "-o" {
				key, rest, ok := strings.Cut(value, "=")
				if !ok {
					key, rest, _ = strings.Cut(value, " ")
				}
				option, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(rest)
			}
			switch option {
			case "proxyjump":
			case "proxycommand":
				value = viaSSH(value)
			default:
				c.inv.note("variable "+name, "not taken over: %s", args[i])
				continue
			}
			if !jumpTarget.MatchString(value) {
				r.leave("the way to it in %s is not of the form user@host[:port]", name)
				return ""
			}
			found = value
		}
	}
	if found != "" && l.keyFile == "" {
		r.leave("it is reached through %s, which needs a private key, and none is named", found)
		return ""
	}
	return found
}

// viaSSH gives the jump host of the command ssh -W %h:%p [-p PORT] [-q] USER@HOST,
// or "" for any other command.
func viaSSH(command string) string {
	args, err := words(command)
	if err != nil || len(args) < 4 || args[0] != "ssh" {
		return ""
	}
	var host, port string
	through := false
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "-W" && i+1 < len(args) && args[i+1] == "%h:%p":
			through = true
			i++
		case args[i] == "-p" && i+1 < len(args):
			port = ":" + args[i+1]
			i++
		case args[i] == "-q":
		case strings.HasPrefix(args[i], "-") || host != "":
			return ""
		default:
			host = args[i]
		}
	}
	if !through {
		return ""
	}
	return host + port
}
