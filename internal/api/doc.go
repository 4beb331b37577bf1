// Package api is fleetd's HTTP interface: routes, JSON bodies, and the table
// between errors and statuses. The bodies are separate from what is stored, so
// that storage and API can change apart from each other. The description that
// clients can rely on is the OpenAPI document served at /openapi.json.
package api
