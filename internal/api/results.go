package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// results streams what a job produced: rows go from the ledger to the socket
// device by device, so that a fleet's report needs no room in memory.
//
// Rows are shown of the devices that were done when the request began. A device
// is thus in the rows or in the failures, also while its job is running.
func (s *Server) results(ctx context.Context, in *idInput) (*streamed, error) {
	job, err := s.service.Job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	tasks, err := s.service.Tasks(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.streamJSON(ctx, func(w io.Writer) error { return s.writeResults(ctx, w, job, tasks) }), nil
}

// streamJSON is an answer of which the first bytes are sent before the last are made.
// The client learns of an error in between from a connection that is cut.
func (s *Server) streamJSON(ctx context.Context, write func(w io.Writer) error) *streamed {
	return &streamed{func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		hc.SetStatus(http.StatusOK)
		w := bufio.NewWriterSize(hc.BodyWriter(), 64<<10)
		err := write(w)
		if err == nil {
			err = w.Flush()
		}
		if err != nil {
			if ctx.Err() == nil {
				s.log.ErrorContext(ctx, "answer was not sent whole", "route", hc.Method()+" "+hc.URL().Path, "err", err)
			}
			panic(http.ErrAbortHandler)
		}
	}}
}

func (s *Server) writeResults(ctx context.Context, w io.Writer, job Job, tasks []Task) error {
	done := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		done[t.Device] = t.State == "succeeded" || t.State == "unchanged"
	}
	o := &object{w: w}
	o.field("job", job)
	o.array("rows", func(row func(json.RawMessage) error) error {
		return s.service.Rows(ctx, job.ID, func(device string, rows []json.RawMessage) error {
			if !done[device] {
				return ctx.Err()
			}
			for _, r := range rows {
				if err := row(r); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	})
	o.field("failures", failures(tasks))
	o.field("warnings", warnings(job, tasks))
	return o.end()
}

// failures gives the row of each device that was not done.
func failures(tasks []Task) []Failure {
	out := []Failure{}
	for _, t := range tasks {
		switch t.State {
		case "failed", "attention", "canceled", "skipped":
		default:
			continue
		}
		if t.Failure != nil {
			out = append(out, *t.Failure)
			continue
		}
		// Stopped before it began: there is a reason, but no failure.
		f := Failure{Device: t.Device, Stage: t.Step, Kind: t.State, Message: t.Reason}
		if f.Message == "" {
			f.Message = t.State
		}
		out = append(out, f)
	}
	return out
}

func warnings(job Job, tasks []Task) []string {
	out := append([]string{}, job.Warnings...)
	for _, t := range tasks {
		for _, text := range t.Warnings {
			out = append(out, t.Device+": "+text)
		}
	}
	return out
}

// object writes a JSON object part by part; the first error stays.
type object struct {
	w     io.Writer
	began bool
	err   error
}

func (o *object) field(name string, v any) {
	o.raw(name, func() error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = o.w.Write(raw)
		return err
	})
}

// raw writes a field whose value f writes.
func (o *object) raw(name string, f func() error) {
	sep := ",\n"
	if !o.began {
		sep, o.began = "{", true
	}
	if o.err == nil {
		_, o.err = io.WriteString(o.w, sep+`"`+name+`":`)
	}
	if o.err == nil {
		o.err = f()
	}
}

// array writes a field that is a list, whose members f hands over one by one.
func (o *object) array(name string, f func(member func(json.RawMessage) error) error) {
	o.raw(name, func() error {
		sep := "["
		err := f(func(m json.RawMessage) error {
			if _, err := io.WriteString(o.w, sep); err != nil {
				return err
			}
			sep = ",\n"
			_, err := o.w.Write(m)
			return err
		})
		if err != nil {
			return err
		}
		if sep == "[" {
			_, err = io.WriteString(o.w, "[]")
		} else {
			_, err = io.WriteString(o.w, "]")
		}
		return err
	})
}

func (o *object) end() error {
	if o.err == nil {
		_, o.err = io.WriteString(o.w, "}\n")
	}
	return o.err
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
