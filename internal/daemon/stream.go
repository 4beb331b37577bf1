package daemon

import (
	"context"
	"io"
	"sync"

	"capfleet/internal/capture"
	"capfleet/internal/fault"
	"capfleet/internal/jobs"
)

// Stream takes the reading side of a live capture. A capture that fails, or that is
// canceled while it waits, never writes: its stream ends with its job.
func (s service) Stream(ctx context.Context, id string) (io.ReadCloser, error) {
	job, _, err := s.d.engine.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	if job.Operation != capture.Name {
		return nil, fault.New(fault.Invalid, "job %s is no capture", id)
	}
	name, err := capture.Stream(job.Spec)
	if err != nil {
		return nil, err
	}
	if job.FinishedAt != nil {
		return nil, fault.New(fault.Conflict, "capture %s has ended", id)
	}
	r, err := s.d.streams.Read(name)
	if err != nil {
		return nil, err
	}
	// The request's context ends with the handler, not before.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j := &jobStream{ReadCloser: r, cancel: cancel}
	j.wg.Go(func() {
		for ev, err := range s.d.engine.Watch(ctx, jobs.WatchOptions{Job: id}) {
			if err != nil {
				break
			}
			if ev.Type != jobs.EventJobFinished {
				continue
			}
			// A retried job has ended before.
			if now, _, err := s.d.engine.Job(ctx, id); err != nil || now.FinishedAt != nil {
				break
			}
		}
		_ = r.Close()
	})
	return j, nil
}

// jobStream is a stream that ends with its job at the latest.
type jobStream struct {
	io.ReadCloser
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (j *jobStream) Read(p []byte) (int, error) {
	n, err := j.ReadCloser.Read(p)
	if err != nil {
		err = io.EOF // the writer has closed, or the job has ended
	}
	return n, err
}

func (j *jobStream) Close() error {
	j.cancel()
	err := j.ReadCloser.Close()
	j.wg.Wait()
	return err
}
