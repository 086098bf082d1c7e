package gateway

import (
	_ "embed"
	"io/fs"
	"path"

	"github.com/gofiber/fiber/v2"
	ui "github.com/swaggo/files/v2"
)

//go:generate go tool -modfile=../tools/go.mod swag init --quiet --dir . --generalInfo routes.go --output docs --outputTypes json

//go:embed docs/swagger.json
var document []byte

//go:embed docs/index.html
var documentationPage []byte

//go:embed docs/start.js
var documentationStart []byte

// documentationPolicy lets the page load what this server has and nothing from anywhere else.
// Swagger UI sets styles on its elements and draws its icons from data URLs.
const documentationPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// showDocumentation shows the page on which the API can be read and tried.
func showDocumentation(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, documentationPolicy)
	c.Type("html", "utf-8")
	return c.Send(documentationPage)
}

// sendDocumentationFile sends what the page is made of, and the OpenAPI document itself. The files
// of Swagger UI that are not needed are not served: some of them reach for other sites.
func sendDocumentationFile(c *fiber.Ctx) error {
	name := c.Params("file")
	content := document
	switch name {
	case "index.html":
		return showDocumentation(c)
	case "doc.json":
	case "start.js":
		content = documentationStart
	case "swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "favicon-32x32.png":
		file, err := fs.ReadFile(ui.FS, name)
		if err != nil {
			return err
		}
		content = file
		c.Set(fiber.HeaderCacheControl, "public, max-age=86400")
	default:
		return fiber.ErrNotFound
	}
	c.Type(path.Ext(name), "utf-8")
	return c.Send(content)
}
