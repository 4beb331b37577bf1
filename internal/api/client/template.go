package client

import (
	"context"
	"net/http"
	"net/url"

	"capfleet/internal/api"
)

// Template gives a template in force by platform and name.
func (c *Client) Template(ctx context.Context, platform, name string) (api.Template, error) {
	return get[api.Template](ctx, c, templateRoute(platform, name))
}

// PutTemplate checks a template and puts it into force.
func (c *Client) PutTemplate(ctx context.Context, platform, name string, change api.TemplateChange) (api.TemplateSaved, error) {
	return exchange[api.TemplateSaved](ctx, c, http.MethodPut, templateRoute(platform, name), change)
}

func templateRoute(platform, name string) string {
	return "/v1/templates/" + url.PathEscape(platform) + "/" + url.PathEscape(name)
}
