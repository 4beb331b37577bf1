// Package config holds the settings of fleetd and the places where fleetd and
// fleetctl look for things, so that both find the same socket without being
// told.
//
// A setting comes from a flag, else from the environment, else from the
// configuration file, else from a default that depends on who runs the program:
//
//	          root                          a user
//	config    /etc/fleetd/fleetd.yaml       $XDG_CONFIG_HOME/fleetd/fleetd.yaml
//	inventory /etc/fleetd/inventory.yaml    $XDG_CONFIG_HOME/fleetd/inventory.yaml
//	overrides /etc/fleetd/overrides         $XDG_CONFIG_HOME/fleetd/overrides
//	state     /var/lib/fleetd               $XDG_STATE_HOME/fleetd
//	socket    /run/fleetd/fleetd.sock       $XDG_RUNTIME_DIR/fleetd/fleetd.sock
//
// XDG_CONFIG_HOME is ~/.config and XDG_STATE_HOME ~/.local/state where they are
// not set. Without XDG_RUNTIME_DIR the socket is in /run/user/UID where that
// exists, since a cron job or a su session lacks the variable and must still find
// the daemon, else in the state directory. On Windows everything is in
// %LOCALAPPDATA%\fleetd.
package config
