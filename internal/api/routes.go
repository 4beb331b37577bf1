package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"capfleet/internal/fault"
)

// route puts one route into the API.
type route func(huma.API)

// routes is the one table of routes. What takes long is a job: POST /v1/jobs
// answers 202 at once, and the events tell how it goes.
func (s *Server) routes() []route {
	const (
		jobs   = "/v1/jobs"
		job    = "/v1/jobs/{id}"
		device = "/v1/devices"
	)
	return append([]route{
		handle(s, "GET", "/v1/version", "version", "Which fleetd this is", s.version),
		handle(s, "GET", device, "list-devices", "Selected devices with the facts last seen; without a selection all", s.devices,
			body[DeviceList]("application/json")),
		handle(s, "GET", device+"/{name}", "get-device", "One device", s.device),
		handle(s, "POST", jobs, "start-job", "Start work on a selection of devices", s.startJob,
			status(http.StatusAccepted)),
		handle(s, "GET", jobs, "list-jobs", "Jobs, newest first", s.listJobs),
		handle(s, "GET", job, "get-job", "One job", s.getJob),
		handle(s, "GET", job+"/tasks", "list-tasks", "A job's tasks: state, step, attempt and reason of each device", s.tasks,
			body[TaskList]("application/json")),
		handle(s, "GET", job+"/results", "get-results", "What a job produced so far: rows and failures", s.results,
			body[Results]("application/json")),
		handle(s, "GET", job+"/journal", "get-journal", "What was done to a device, oldest first", s.journal),
		handle(s, "POST", job+"/cancel", "cancel-job", "Ask a job to stop", s.cancel, status(http.StatusAccepted)),
		handle(s, "POST", job+"/retry", "retry-job", "Take the failed tasks of a job up again", s.retry, status(http.StatusAccepted)),
		handle(s, "GET", job+"/events", "watch-job", "Server-sent events of a job, ended by an event named end once it has finished", s.jobEvents,
			body[Event](eventStream)),
		handle(s, "GET", "/v1/events", "watch", "Server-sent events of all jobs", s.allEvents,
			body[Event](eventStream)),
		handle(s, "POST", "/v1/host-keys", "pin-host-keys", "Trust host keys from now on", s.pinHostKeys,
			maxBytes(32<<20)), // 10,000 devices with three keys each
		handle(s, "GET", "/v1/artifacts", "list-artifacts", "Kept files, of one job or all", s.artifacts),
		handle(s, "GET", "/v1/artifacts/{sha256}", "get-artifact", "The content of a kept file", s.artifact,
			body[[]byte]("application/octet-stream")),
	}, slices.Concat(s.pauseRoutes(), s.rolloutRoutes(), s.auditRoutes(), s.artifactRoutes(), s.templateRoutes(), s.doctorRoutes(), s.streamRoutes(), s.scheduleRoutes(), s.notifyRoutes(), s.historyRoutes())...)
}

// handle makes a route of a handler. An error of the handler becomes a Problem;
// one that is ours to look after is logged here and nowhere else.
func handle[I, O any](s *Server, method, path, id, summary string, h func(context.Context, *I) (*O, error), opts ...func(huma.API, *huma.Operation)) route {
	return func(a huma.API) {
		problem := a.OpenAPI().Components.Schemas.Schema(typeOf[Problem](), true, "Problem")
		op := huma.Operation{Method: method, Path: path, OperationID: id, Summary: summary, MaxBodyBytes: maxBody,
			Responses: map[string]*huma.Response{"default": {
				Description: "Error; kind says which sort",
				Content:     map[string]*huma.MediaType{problemJSON: {Schema: problem}},
			}}}
		for _, opt := range opts {
			opt(a, &op)
		}
		huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
			out, err := h(ctx, in)
			if err != nil {
				if k := fault.KindOf(err); k == fault.Internal || k == fault.Storage {
					s.log.ErrorContext(ctx, "request failed", "route", method+" "+path, "by", peer(ctx), "err", err)
				}
				return nil, NewProblem(err)
			}
			return out, nil
		})
	}
}

func status(code int) func(huma.API, *huma.Operation) {
	return func(_ huma.API, op *huma.Operation) { op.DefaultStatus = code }
}

func maxBytes(n int64) func(huma.API, *huma.Operation) {
	return func(_ huma.API, op *huma.Operation) { op.MaxBodyBytes = n }
}

// body describes the answer of a route that writes it itself.
func body[T any](mediaType string) func(huma.API, *huma.Operation) {
	return func(a huma.API, op *huma.Operation) {
		schema := &huma.Schema{Type: huma.TypeString, Format: "binary"}
		if t := typeOf[T](); t != typeOf[[]byte]() {
			schema = a.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
		}
		op.Responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK),
			Content: map[string]*huma.MediaType{mediaType: {Schema: schema}}}
	}
}

// answer is a JSON body.
type answer[T any] struct{ Body T }

func answered[T any](v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{v}, nil
}

// streamed is an answer that the handler writes itself.
type streamed struct{ Body func(huma.Context) }

type (
	nothing struct{}
	idInput struct {
		ID string `path:"id" maxLength:"64" doc:"the job's id"`
	}
	jobReply struct {
		Location string `header:"Location"`
		Body     Job
	}
)

func (s *Server) version(ctx context.Context, _ *nothing) (*answer[Version], error) {
	return answered(s.service.Version(ctx))
}

type devicesInput struct {
	Name     []string `query:"name,explode" doc:"names or globs; may be given several times"`
	Selector string   `query:"selector" doc:"Kubernetes label selector; site, platform, group and name are selectable too"`
	All      bool     `query:"all" doc:"every device"`
}

// devices streams the list: a large fleet's has ten megabytes, of which the client
// reads the first while the last are made.
func (s *Server) devices(ctx context.Context, in *devicesInput) (*streamed, error) {
	rows, err := s.service.Devices(ctx, Selection{Names: in.Name, Selector: in.Selector, All: in.All})
	if err != nil {
		return nil, err
	}
	return s.streamJSON(ctx, func(w io.Writer) error {
		o := &object{w: w}
		o.array("rows", func(row func(json.RawMessage) error) error {
			for r, err := range rows {
				if err == nil {
					err = row(r)
				}
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		return o.end()
	}), nil
}

func (s *Server) device(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"256" doc:"exact name"`
}) (*answer[Device], error) {
	return answered(s.service.Device(ctx, in.Name))
}

func (s *Server) startJob(ctx context.Context, in *struct{ Body JobRequest }) (*jobReply, error) {
	return reply(s.service.Start(ctx, peer(ctx), in.Body))
}

type jobsInput struct {
	Before string `query:"before" maxLength:"64" doc:"only jobs older than this id"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50"`
	Active bool   `query:"active" doc:"only unfinished jobs"`
}

func (s *Server) listJobs(ctx context.Context, in *jobsInput) (*answer[JobList], error) {
	l, err := s.service.Jobs(ctx, JobQuery{Before: in.Before, Limit: in.Limit, Active: in.Active})
	l.Rows = notNil(l.Rows)
	return answered(l, err)
}

func (s *Server) getJob(ctx context.Context, in *idInput) (*answer[Job], error) {
	return answered(s.service.Job(ctx, in.ID))
}

func (s *Server) tasks(ctx context.Context, in *idInput) (*streamed, error) {
	tasks, err := s.service.Tasks(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.streamJSON(ctx, func(w io.Writer) error {
		o := &object{w: w}
		o.array("rows", func(row func(json.RawMessage) error) error {
			for i := range tasks {
				raw, err := json.Marshal(&tasks[i])
				if err == nil {
					err = row(raw)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		return o.end()
	}), nil
}

type journalInput struct {
	ID     string `path:"id" maxLength:"64"`
	Device string `query:"device" required:"true" maxLength:"256" doc:"a device of the job"`
}

func (s *Server) journal(ctx context.Context, in *journalInput) (*answer[JournalList], error) {
	rows, err := s.service.Journal(ctx, in.ID, in.Device)
	return answered(JournalList{Rows: notNil(rows)}, err)
}

func (s *Server) cancel(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Cancel(ctx, in.ID, peer(ctx)))
}

func (s *Server) retry(ctx context.Context, in *idInput) (*jobReply, error) {
	return reply(s.service.Retry(ctx, in.ID, peer(ctx)))
}

func (s *Server) pinHostKeys(ctx context.Context, in *struct{ Body PinRequest }) (*answer[PinResult], error) {
	res, err := s.service.PinHostKeys(ctx, peer(ctx), in.Body)
	res.Added, res.Unchanged = notNil(res.Added), notNil(res.Unchanged)
	return answered(res, err)
}

type artifactsInput struct {
	Job    string `query:"job" maxLength:"64" doc:"only this job's"`
	Digest string `query:"digest" pattern:"^[0-9a-f]{1,64}$" doc:"only those whose SHA-256 begins so"`
}

func (s *Server) artifacts(ctx context.Context, in *artifactsInput) (*answer[ArtifactList], error) {
	if in.Digest != "" {
		rows, err := s.service.FindArtifacts(ctx, in.Job, in.Digest)
		return answered(ArtifactList{Rows: notNil(rows)}, err)
	}
	rows, err := s.service.Artifacts(ctx, in.Job)
	return answered(ArtifactList{Rows: notNil(rows)}, err)
}

type artifactInput struct {
	SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"digest of the content"`
}

// artifactContentInput says from where on the bytes are wanted.
type artifactContentInput struct {
	SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"digest of the content"`
	Offset int64  `query:"offset" minimum:"0" doc:"the first byte that is wanted; to go on with what was cut"`
}

// artifact sends a file's bytes. They are whatever a device gave, so they are
// never offered as something that a browser would show.
func (s *Server) artifact(ctx context.Context, in *artifactContentInput) (*streamed, error) {
	r, info, err := s.service.Artifact(ctx, in.SHA256)
	if err != nil {
		return nil, err
	}
	if in.Offset > info.Size {
		_ = r.Close()
		return nil, fault.New(fault.Invalid, "artifact %s has %d bytes: there is nothing from %d on", in.SHA256, info.Size, in.Offset)
	}
	// What the client has is read, too: the whole is compared with its digest.
	if _, err := io.CopyN(io.Discard, r, in.Offset); err != nil {
		_ = r.Close()
		return nil, err
	}
	left := info.Size - in.Offset
	return &streamed{func(hc huma.Context) {
		defer func() { _ = r.Close() }()
		hc.SetHeader("Content-Type", "application/octet-stream")
		hc.SetHeader("X-Content-Type-Options", "nosniff")
		hc.SetHeader("Content-Length", strconv.FormatInt(left, 10))
		hc.SetStatus(http.StatusOK)
		if n, err := io.Copy(hc.BodyWriter(), r); err != nil || n != left {
			s.log.WarnContext(ctx, "artifact was not sent whole", "sha256", in.SHA256, "bytes", n, "err", err)
			panic(http.ErrAbortHandler) // a cut connection is how the client learns of it
		}
	}}, nil
}

func reply(j Job, err error) (*jobReply, error) {
	if err != nil {
		return nil, err
	}
	return &jobReply{Location: "/v1/jobs/" + j.ID, Body: j}, nil
}

// notNil makes an empty list [] instead of null in JSON.
func notNil[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
