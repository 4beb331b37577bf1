package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"capfleet/internal/fault"
)

const (
	// maxBody bounds a request's body where a route does not say otherwise.
	maxBody = 1 << 20
	// heartbeat is the pause after which a silent stream gets a comment. Clients
	// take three missing ones for a dead connection.
	heartbeat = 15 * time.Second
	// drain is how long a stopping server waits for answers under way.
	drain = 3 * time.Second
)

// Options is what a Server is made of. Logger may be nil.
type Options struct {
	Service Service
	Logger  *slog.Logger
	// Metrics answers GET /metrics in Prometheus' format; nil leaves the route out. It
	// is no part of the OpenAPI document.
	Metrics http.Handler
	// Heartbeat is the pause after which a silent event stream gets a comment; 0 is
	// 15 s.
	Heartbeat time.Duration
}

// Server is fleetd's HTTP interface. It is an http.Handler; Serve runs it on a
// listener.
type Server struct {
	service   Service
	log       *slog.Logger
	heartbeat time.Duration
	handler   http.Handler
	document  []byte
	// stopping is closed when streams have to end.
	stopping chan struct{}
}

// New builds the routes and the OpenAPI document.
func New(opts Options) *Server {
	s := &Server{service: opts.Service, log: opts.Logger, heartbeat: opts.Heartbeat, stopping: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.heartbeat <= 0 {
		s.heartbeat = heartbeat
	}
	mux := http.NewServeMux()
	a := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "fleetd", Version: "1",
				Description: "Work on fleets of packet-capture appliances: jobs, their results and events, and the inventory."},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{asProblem},
	})
	for _, register := range s.routes() {
		register(a)
	}
	correct(a.OpenAPI().Components.Schemas.Map())
	s.document = document(a.OpenAPI())
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(s.document)
	})
	if opts.Metrics != nil {
		mux.Handle("GET /metrics", opts.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.noRoute(w, r, mux) })
	s.handler = s.around(mux)
	return s
}

// OpenAPI is the document served at /openapi.json.
func (s *Server) OpenAPI() []byte { return bytes.Clone(s.document) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers on a listener until ctx ends. Then it accepts nothing more, ends
// event streams, waits a bounded time for answers under way, and returns nil. It
// closes the listener and may be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// Requests outlive ctx: what is under way when it ends is drained.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	hs := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withPeer,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		// No WriteTimeout: an event stream lasts as long as its job. Every write of a
		// stream has its own deadline instead.
	}
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	select {
	case err := <-served:
		return fault.Wrap(fault.Internal, "serve the API", err)
	case <-ctx.Done():
	}
	close(s.stopping)
	dctx, stop := context.WithTimeout(base, drain)
	defer stop()
	err := hs.Shutdown(dctx)
	if err != nil {
		cancel()
		s.log.Warn("answers under way were cut", "err", err)
		err = hs.Close()
	}
	if end := <-served; err == nil && !errors.Is(end, http.ErrServerClosed) {
		err = end
	}
	return fault.Wrap(fault.Internal, "stop the API", err)
}

// around logs requests and answers a panic of a handler as an error instead of a
// cut connection, where nothing has been sent yet.
func (s *Server) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &tracked{ResponseWriter: w}
		began := time.Now()
		defer func() {
			s.log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "by", peer(r.Context()),
				"status", sent.status, "elapsed", time.Since(began))
		}()
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			err, ok := v.(error)
			if ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v) // net/http's own way to cut a connection
			}
			s.log.ErrorContext(r.Context(), "request panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if sent.status != 0 {
				panic(http.ErrAbortHandler)
			}
			write(sent, NewProblem(fault.New(fault.Internal, "the request met a defect of fleetd; its log has the stack")))
		}()
		next.ServeHTTP(sent, r)
	})
}

// tracked knows the status of an answer, 0 while it has not begun.
type tracked struct {
	http.ResponseWriter
	status int
}

func (t *tracked) WriteHeader(status int) {
	if t.status == 0 {
		t.status = status
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return t.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// noRoute answers for a path, or a method on a path, that nothing serves.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if _, pattern := mux.Handler(probe); pattern != "/" && pattern != "" {
			allow = append(allow, method)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		p := NewProblem(fault.New(fault.Invalid, "%s is not possible on %s", r.Method, r.URL.Path))
		p.Status = http.StatusMethodNotAllowed
		write(w, p)
		return
	}
	write(w, NewProblem(fault.New(fault.NotFound, "no such route: %s %s", r.Method, r.URL.Path)))
}

func write(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", problemJSON)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// asProblem turns huma's own errors (a body that does not fit, an unknown query
// parameter) into our body. They keep their status; the kind goes with it.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	kind := KindOfStatus(m.Status)
	var parts []string
	for _, d := range m.Errors {
		if d == nil {
			continue
		}
		part := d.Message
		if d.Location != "" {
			part = d.Location + ": " + part
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	detail := m.Detail
	if len(parts) > 0 {
		detail = strings.Join(parts, "; ")
	}
	return &Problem{Title: title(kind), Status: m.Status, Kind: string(kind), Detail: line(detail)}, nil
}

// correct makes the schemas say what is so. Errors are Problems, not huma's own
// model. Lists are empty and never null. Answers may gain fields with a later
// version, while an unknown key in a request is refused.
func correct(schemas map[string]*huma.Schema) {
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	requests := []string{"JobRequest", "Selection", "PinRequest", "HostKey", "TemplateChange", "TemplateSample"}
	for name, schema := range schemas {
		for _, property := range schema.Properties {
			if property.Type == huma.TypeArray {
				property.Nullable = false
			}
		}
		if closed, ok := schema.AdditionalProperties.(bool); ok && !closed && !slices.Contains(requests, name) {
			schema.AdditionalProperties = nil
		}
	}
}

func document(o *huma.OpenAPI) []byte {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("OpenAPI document: %v", err)) // built from our own types alone
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		panic(fmt.Sprintf("OpenAPI document: %v", err))
	}
	b.WriteByte('\n')
	return b.Bytes()
}
