package cli

import (
	"encoding/json"
	"slices"

	"capfleet/internal/api"
	"capfleet/internal/cli/output"
	"capfleet/internal/fault"
)

// resultAnswer gives the result of a job of any operation as an answer to print,
// so that `job watch` shows what the command that made the job would have shown.
func resultAnswer(res api.Results) (answer, error) {
	res = complete(res)
	ans := answer{rows: res.Rows, doc: res}
	switch res.Job.Operation {
	case "report":
		var spec reportSpec
		if err := json.Unmarshal(res.Job.Spec, &spec); err != nil {
			return ans, fault.Wrap(fault.Internal, "read job "+res.Job.ID, err)
		}
		if spec.Record {
			err := recordingAnswer(&ans, res)
			return ans, err
		}
		ans.view = output.ReportView(spec.Report)
	case "command":
		if err := commandAnswer(&ans, res); err != nil {
			return ans, err
		}
	case "capture":
		if err := captureAnswer(&ans, res); err != nil {
			return ans, err
		}
	case "capacity":
		ans.view = output.ReportView("capacity")
	case "check":
		ans.view = checkView()
	case "hostkeys":
		ans.view = hostKeyView()
	case "dossier":
		ans.view = dossierView()
	case "bmccerts":
		ans.view = certificateView()
	case "hotfix":
		if err := hotfixAnswer(&ans, res); err != nil {
			return ans, err
		}
	case "sel":
		selAnswer(&ans, res)
	}
	if ans.view.Table == nil && ans.people == nil {
		ans.view = viewOfKeys(res.Rows)
	}
	return ans, nil
}

// complete makes absent lists empty ones: rows and failures are always arrays.
func complete(res api.Results) api.Results {
	if res.Rows == nil {
		res.Rows = []json.RawMessage{}
	}
	if res.Failures == nil {
		res.Failures = []api.Failure{}
	}
	if res.Warnings == nil {
		res.Warnings = []string{}
	}
	return res
}

// viewOfKeys makes a view from the rows themselves: every key, in the order in
// which the rows first have it, under its own name.
func viewOfKeys(rows []json.RawMessage) output.View {
	var keys []string
	for _, row := range rows {
		for _, key := range output.Keys(row) {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return viewOfNames(keys)
}

// viewOfNames makes a view with a column for each key.
func viewOfNames(keys []string) output.View {
	view := output.View{Table: make([]output.Column, len(keys))}
	for i, key := range keys {
		view.Table[i] = output.Column{Key: key, Head: key, Kind: output.List}
	}
	return view
}
