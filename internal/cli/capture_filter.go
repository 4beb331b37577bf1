package cli

import "github.com/spf13/cobra"

func (a *app) captureFilterCommand() *cobra.Command { return &cobra.Command{Use: "filter"} }
