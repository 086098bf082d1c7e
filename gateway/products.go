package gateway

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/inventorypb"
)

const (
	nameMax  = 200             // characters of a product's name
	priceMax = 100_000_000_000 // of one unit, in the smallest unit: a billion with two decimals
	deltaMax = 1_000_000_000   // units in one change of stock
)

// productRequest is the body that makes or replaces a product.
type productRequest struct {
	Name  string `json:"name" minLength:"1" maxLength:"200" example:"Green tea" validate:"required"`
	Price price  `json:"price" validate:"required"`
	// Only active products can be bought.
	Active bool `json:"active" example:"true" validate:"required"`
} // @name PutProduct

// productView is a product as everybody sees it.
type productView struct {
	ProductID string `json:"productID" example:"tea"`
	Name      string `json:"name" example:"Green tea"`
	Price     price  `json:"price"`
	Active    bool   `json:"active"`
	// Absent in the answer to a change of the product.
	Stock *stockView `json:"stock,omitempty"`
} // @name Product

// stockView is how much there is of a product. A product that never had stock has none.
type stockView struct {
	// The numbers of an infinite product mean nothing.
	Kind string `json:"kind" enums:"finite,infinite" example:"finite"`
	// Units in the house, including those that are reserved.
	OnHand   int64 `json:"onHand" example:"10"`
	Reserved int64 `json:"reserved" example:"2"`
	// What can be bought now.
	Available int64 `json:"available" example:"8"`
} // @name Stock

// productPage is a part of the catalogue, in the order of the IDs.
type productPage struct {
	Products []productView `json:"products"`
	// Ask for the next part with it; absent on the last.
	NextCursor string `json:"nextCursor,omitempty"`
} // @name Products

// stockRequest is the body of a change of stock.
type stockRequest struct {
	// Units that come in; below zero, units that go out.
	Delta int64 `json:"delta" minimum:"-1000000000" maximum:"1000000000" example:"10" validate:"required"`
	// Left out, it stays as it is; finite for a new product.
	Kind string `json:"kind,omitempty" enums:"finite,infinite"`
} // @name ChangeStock

// stockAnswer is the stock after a change.
type stockAnswer struct {
	ProductID string `json:"productID" example:"tea"`
	stockView `json:",inline"`
} // @name StockOfProduct

// getProduct shows one product with its stock.
//
//	@Summary	Read a product
//	@Tags		products
//	@Produce	json,application/problem+json
//	@Param		productID	path		string		true	"which product"
//	@Success	200			{object}	productView	"the product"
//	@Failure	400			{object}	problem		"the request is wrong"
//	@Failure	404			{object}	problem		"no such product"
//	@Failure	500			{object}	problem		"a fault of the shop"
//	@Failure	503			{object}	problem		"something is away"
//	@Router		/v1/products/{productID} [get]
func (g *gateway) getProduct(c *fiber.Ctx) error {
	id, err := pathID(c, "productID")
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	product, err := g.product(ctx, id)
	if err != nil {
		return err
	}
	views, err := g.stocked(ctx, []*cataloguepb.Product{product})
	if err != nil {
		return err
	}
	return c.JSON(views[0])
}

// listProducts shows a part of the catalogue.
//
//	@Summary	List products by ID
//	@Tags		products
//	@Produce	json,application/problem+json
//	@Param		limit	query		int			false	"how many"	minimum(1)	maximum(100)	default(20)
//	@Param		cursor	query		string		false	"nextCursor of an earlier answer"
//	@Success	200		{object}	productPage	"a part of the list"
//	@Failure	400		{object}	problem		"the request is wrong"
//	@Failure	500		{object}	problem		"a fault of the shop"
//	@Failure	503		{object}	problem		"something is away"
//	@Router		/v1/products [get]
func (g *gateway) listProducts(c *fiber.Ctx) error {
	limit, cursor, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	resp, err := g.catalogue.ListProducts(ctx, &cataloguepb.ListProductsRequest{Limit: limit, Cursor: cursor})
	if err != nil {
		return err
	}
	views, err := g.stocked(ctx, resp.GetProducts())
	if err != nil {
		return err
	}
	return c.JSON(productPage{Products: views, NextCursor: resp.GetNextCursor()})
}

// putProduct makes a product or replaces it.
//
//	@Summary	Make or replace a product
//	@Tags		staff
//	@Accept		json
//	@Produce	json,application/problem+json
//	@Security	StaffKey
//	@Param		productID	path		string			true	"which product"
//	@Param		body		body		productRequest	true	"the whole product"
//	@Success	200			{object}	productView		"the product as it is now, without its stock"
//	@Failure	400			{object}	problem			"the request is wrong"
//	@Failure	401			{object}	problem			"the staff key is missing or wrong"
//	@Failure	404			{object}	problem			"this shop has no staff routes"
//	@Failure	413			{object}	problem			"the body is larger than 64 KiB"
//	@Failure	415			{object}	problem			"the body is no application/json"
//	@Failure	500			{object}	problem			"a fault of the shop"
//	@Failure	503			{object}	problem			"something is away"
//	@Router		/v1/products/{productID} [put]
func (g *gateway) putProduct(c *fiber.Ctx) error {
	id, err := pathID(c, "productID")
	if err != nil {
		return err
	}
	body := readBody(c, "name", "price", "active")
	name, amount, active := body.text("name", 1, nameMax), body.amount("price", priceMax), body.flag("active")
	if body.err != nil {
		return body.err
	}
	ctx, cancel := asking(c)
	defer cancel()
	resp, err := g.catalogue.PutProduct(ctx, &cataloguepb.PutProductRequest{Product: &cataloguepb.Product{
		ProductId: id, Name: name, PriceMinor: amount.Minor, Currency: amount.Currency, Active: active,
	}})
	g.list.Forget(id) // also when nobody knows whether it was changed
	if err != nil {
		return err
	}
	return c.JSON(viewProduct(resp.GetProduct()))
}

// changeStock brings units of a product in or out.
//
//	@Summary		Change the stock of a product
//	@Description	Sent again with the same Idempotency-Key, it is done once.
//	@Tags			staff
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Security		StaffKey
//	@Param			productID		path		string			true	"which product"
//	@Param			Idempotency-Key	header		string			false	"1 to 255 printable characters"
//	@Param			body			body		stockRequest	true	"the change"
//	@Success		200				{object}	stockAnswer		"the stock as it is now"
//	@Failure		400				{object}	problem			"the request is wrong"
//	@Failure		401				{object}	problem			"the staff key is missing or wrong"
//	@Failure		404				{object}	problem			"no such product, or this shop has no staff routes"
//	@Failure		409				{object}	problem			"refused: less than is reserved would be left"
//	@Failure		413				{object}	problem			"the body is larger than 64 KiB"
//	@Failure		415				{object}	problem			"the body is no application/json"
//	@Failure		422				{object}	problem			"the Idempotency-Key came before with another body"
//	@Failure		500				{object}	problem			"a fault of the shop"
//	@Failure		503				{object}	problem			"something is away; ask again with the same Idempotency-Key"
//	@Router			/v1/products/{productID}/stock [post]
func (g *gateway) changeStock(c *fiber.Ctx) error {
	productID, err := pathID(c, "productID")
	if err != nil {
		return err
	}
	id, err := adjustmentID(c, productID)
	if err != nil {
		return err
	}
	body := readBody(c, "delta", "kind")
	delta, kind := body.whole("delta", -deltaMax, deltaMax), body.stockKind()
	if body.err != nil {
		return body.err
	}
	ctx, cancel := asking(c)
	defer cancel()
	if _, err := g.product(ctx, productID); err != nil { // stock of nothing could never be sold
		return err
	}
	resp, err := g.inventory.Adjust(ctx, &inventorypb.AdjustRequest{AdjustmentId: id, ProductId: productID, Delta: delta, Kind: kind})
	g.soldOut.Forget(productID) // also when nobody knows whether it was changed; the event takes a moment
	if err != nil {
		return err
	}
	return c.JSON(stockAnswer{productID, viewStock(resp.GetStock())})
}

// adjustmentID is the change's ID by the request's Idempotency-Key, or a new one without.
func adjustmentID(c *fiber.Ctx, productID string) (string, error) {
	key, given, err := idempotencyKey(c)
	if err != nil || !given {
		return ids.New(), err
	}
	return ids.Derive("stock", productID, key), nil
}

// stockKind reads whether a product is counted.
func (m *members) stockKind() inventorypb.Kind {
	if !m.has("kind") {
		return inventorypb.Kind_KIND_UNSPECIFIED
	}
	switch kind, _ := m.string("kind"); kind {
	case "finite":
		return inventorypb.Kind_KIND_FINITE
	case "infinite":
		return inventorypb.Kind_KIND_INFINITE
	}
	m.fail("kind", `must be "finite" or "infinite"`)
	return inventorypb.Kind_KIND_UNSPECIFIED
}

// product looks up one product; fault.NotFound when there is none.
func (g *gateway) product(ctx context.Context, id string) (*cataloguepb.Product, error) {
	found, err := g.list.Find(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if found[id] == nil {
		return nil, fault.New(fault.NotFound, "unknown_product", "there is no product %s", id)
	}
	return found[id], nil
}

// stocked shows products with what the inventory has of them.
func (g *gateway) stocked(ctx context.Context, products []*cataloguepb.Product) ([]productView, error) {
	views := make([]productView, len(products))
	if len(products) == 0 {
		return views, nil
	}
	req := &inventorypb.GetAvailabilityRequest{KnownOnly: true}
	for _, p := range products {
		req.ProductIds = append(req.ProductIds, p.GetProductId())
	}
	resp, err := g.inventory.GetAvailability(ctx, req)
	if err != nil {
		return nil, err
	}
	byID := map[string]*inventorypb.Stock{}
	for _, s := range resp.GetStock() {
		byID[s.GetProductId()] = s
	}
	for i, p := range products {
		stock := viewStock(byID[p.GetProductId()])
		views[i] = viewProduct(p)
		views[i].Stock = &stock
	}
	return views, nil
}

func viewProduct(p *cataloguepb.Product) productView {
	return productView{ProductID: p.GetProductId(), Name: p.GetName(), Price: price{p.GetPriceMinor(), p.GetCurrency()}, Active: p.GetActive()}
}

// viewStock shows a stock; nil is that of a product that never had any.
func viewStock(s *inventorypb.Stock) stockView {
	view := stockView{Kind: "finite", OnHand: s.GetOnHand(), Reserved: s.GetReserved(), Available: s.GetAvailable()}
	if s.GetKind() == inventorypb.Kind_KIND_INFINITE {
		view.Kind = "infinite"
	}
	return view
}
