package gateway

import "github.com/gofiber/fiber/v2"

// routes is everything that this shop answers over HTTP.
//
//	@title						Cartwright
//	@version					1
//	@description				Carts, stock and checkout. Amounts of money are whole numbers in the currency's smallest unit: 4726 EUR is 47.26 euros. IDs have 1 to 64 characters of A-Z a-z 0-9 . _ : -
//	@license.name				Apache-2.0
//	@BasePath					/
//	@securityDefinitions.apikey	StaffKey
//	@in							header
//	@name						Authorization
//	@description				The word Bearer, a space, and the staff key.
func (g *gateway) routes(app *fiber.App) {
	app.Use(g.observe)

	app.Post(addToCartPath, g.addToCart)
	app.Post(checkOutCartPath, g.checkOutCart)

	app.Get("/v1/carts/:clientID", g.getCart)
	app.Delete("/v1/carts/:clientID", g.clearCart)
	app.Put("/v1/carts/:clientID/items/:productID", g.setLine)
	app.Delete("/v1/carts/:clientID/items/:productID", g.removeLine)

	app.Get("/v1/orders", g.listOrders)
	app.Get("/v1/orders/:orderID", g.getOrder)
	app.Get("/v1/jobs/:jobID", g.getJob)

	app.Get("/v1/products", g.listProducts)
	app.Get("/v1/products/:productID", g.getProduct)
	app.Put("/v1/products/:productID", g.staffOnly, g.putProduct)
	app.Post("/v1/products/:productID/stock", g.staffOnly, g.changeStock)

	app.Get("/documentation", showDocumentation)
	app.Get("/swagger", showDocumentation)
	app.Get("/swagger/:file", sendDocumentationFile)
}
