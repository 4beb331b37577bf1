package api

import (
	"context"
	"net/http"
	"time"
)

// NotifyService answers for who is told what happens.
type NotifyService interface {
	// Receivers tells how the receivers of the configuration do, in order of name.
	Receivers(ctx context.Context) ([]Receiver, error)
	// TestReceiver sends one a message and gives it once it was taken. By is who asked.
	TestReceiver(ctx context.Context, name, by string) (Notification, error)
}

// Receiver is somebody that fleetd tells, and how that goes.
type Receiver struct {
	Name       string     `json:"name"`
	Kind       string     `json:"kind" doc:"webhook, syslog or directory"`
	Target     string     `json:"target" doc:"where it is; of a URL only the host"`
	Conditions []string   `json:"conditions" doc:"what rules tell it of"`
	Waiting    int        `json:"waiting" doc:"messages and results that it has not taken yet"`
	OldestAt   *time.Time `json:"oldest_at" doc:"since when the oldest of them waits"`
	LastSentAt *time.Time `json:"last_sent_at" doc:"since fleetd started"`
	LastError  string     `json:"last_error" doc:"why it did not take the last one"`
}

// ReceiverList is the answer of GET /v1/receivers.
type ReceiverList struct {
	Rows []Receiver `json:"rows"`
}

// Notification is a message as it was sent.
type Notification struct {
	ID        string    `json:"id" doc:"the same each time that it is sent; a webhook has it in Idempotency-Key"`
	Condition string    `json:"condition"`
	Receiver  string    `json:"receiver"`
	Time      time.Time `json:"time"`
	Summary   string    `json:"summary"`
}

func (s *Server) notifyRoutes() []route {
	return []route{
		handle(s, "GET", "/v1/receivers", "list-receivers", "Who is told what happens, and how that goes", s.receivers),
		handle(s, "POST", "/v1/receivers/{name}/test", "test-receiver", "Send a receiver a message", s.testReceiver, status(http.StatusOK)),
	}
}

func (s *Server) receivers(ctx context.Context, _ *nothing) (*answer[ReceiverList], error) {
	rows, err := s.service.Receivers(ctx)
	return answered(ReceiverList{Rows: notNil(rows)}, err)
}

func (s *Server) testReceiver(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"64" doc:"the receiver's name"`
}) (*answer[Notification], error) {
	return answered(s.service.TestReceiver(ctx, in.Name, peer(ctx)))
}
