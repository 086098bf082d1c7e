package gateway

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/money"
	"cartwright/jobs"
	"cartwright/pricelist"
	"cartwright/proto/cartpb"
	"cartwright/proto/jobspb"
)

// addRequest is the body of an add.
type addRequest struct {
	ClientID  string `json:"clientID" minLength:"1" maxLength:"64" example:"client-1" validate:"required"`
	ProductID string `json:"productID" minLength:"1" maxLength:"64" example:"tea" validate:"required"`
	Quantity  int64  `json:"quantity" minimum:"1" maximum:"10000" example:"2" validate:"required"`
} // @name AddToCart

// quantityRequest is the body that sets a line.
type quantityRequest struct {
	// 0 takes the line out.
	Quantity int64 `json:"quantity" minimum:"0" maximum:"10000" example:"3" validate:"required"`
} // @name Quantity

// cartView is a cart as its owner sees it: names and prices are those of now.
type cartView struct {
	ClientID string     `json:"clientID" example:"client-1"`
	Items    []cartItem `json:"items"`
	// Null for an empty cart, and for one whose prices cannot be added up.
	Total *price `json:"total"`
	// Null for a client who has no cart.
	UpdatedAt *string `json:"updatedAt" format:"date-time"`
} // @name Cart

// cartItem is a line of a cart. A product that is no longer in the catalogue has an empty name and
// no price, and counts for nothing in the total.
type cartItem struct {
	ProductID string `json:"productID" example:"tea"`
	Name      string `json:"name" example:"Green tea"`
	Quantity  int64  `json:"quantity" example:"2"`
	Price     *price `json:"price"`
} // @name CartItem

// price is an amount of money in the currency's smallest unit.
type price struct {
	Amount   int64  `json:"amount" minimum:"0" maximum:"100000000000" example:"4726"`
	Currency string `json:"currency" example:"EUR"`
} // @name Price

// addToCart puts more of a product into a cart.
//
//	@Summary		Add to a cart
//	@Description	Adds units of a product to a client's cart. Sent again with the same Idempotency-Key and body, it is done once and answered alike; what is refused without a jobID, because the product is sold out, may be sent again for another answer.
//	@Tags			shop
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header		string		false	"1 to 255 printable characters"
//	@Param			Prefer			header		string		false	"respond-async: do not wait for the result"
//	@Param			body			body		addRequest	true	"what to add"
//	@Success		200				{object}	shopAnswer	"done"
//	@Success		202				{object}	shopAnswer	"accepted, not finished; Location says where to ask"
//	@Failure		400				{object}	shopAnswer	"the request is wrong; the error begins with the field"
//	@Failure		404				{object}	shopAnswer	"no such product"
//	@Failure		409				{object}	shopAnswer	"refused, such as short stock or a full cart"
//	@Failure		413				{object}	shopAnswer	"the body is larger than 64 KiB"
//	@Failure		415				{object}	shopAnswer	"the body is no application/json"
//	@Failure		422				{object}	shopAnswer	"the Idempotency-Key came before with another body"
//	@Failure		500				{object}	shopAnswer	"a fault of the shop"
//	@Failure		503				{object}	shopAnswer	"something is away; ask again after Retry-After with the same Idempotency-Key"
//	@Router			/addToCart [post]
func (g *gateway) addToCart(c *fiber.Ctx) error {
	body := readBody(c, "clientID", "productID", "quantity")
	job := &jobspb.AddToCart{
		ClientId:  body.id("clientID"),
		ProductId: body.id("productID"),
		Quantity:  body.whole("quantity", 1, jobs.QuantityMax),
	}
	if body.err != nil {
		return body.err
	}
	o, err := g.submit(c, job)
	if err != nil {
		return err
	}
	return answerCartJob(c, o)
}

// setLine makes a cart's line exactly as long as asked.
//
//	@Summary	Set a line of a cart
//	@Tags		carts
//	@Accept		json
//	@Produce	json,application/problem+json
//	@Param		clientID		path		string			true	"whose cart"
//	@Param		productID		path		string			true	"which line"
//	@Param		Idempotency-Key	header		string			false	"1 to 255 printable characters"
//	@Param		Prefer			header		string			false	"respond-async: do not wait for the result"
//	@Param		body			body		quantityRequest	true	"how long the line is to be"
//	@Success	200				{object}	shopAnswer		"done"
//	@Success	202				{object}	shopAnswer		"accepted, not finished; Location says where to ask"
//	@Failure	400				{object}	problem			"the request is wrong"
//	@Failure	404				{object}	problem			"no such product"
//	@Failure	409				{object}	problem			"refused, such as short stock or a full cart"
//	@Failure	413				{object}	problem			"the body is larger than 64 KiB"
//	@Failure	415				{object}	problem			"the body is no application/json"
//	@Failure	422				{object}	problem			"the Idempotency-Key came before with another body"
//	@Failure	500				{object}	problem			"a fault of the shop"
//	@Failure	503				{object}	problem			"something is away"
//	@Router		/v1/carts/{clientID}/items/{productID} [put]
func (g *gateway) setLine(c *fiber.Ctx) error {
	clientID, productID, err := linePath(c)
	if err != nil {
		return err
	}
	body := readBody(c, "quantity")
	quantity := body.whole("quantity", 0, jobs.QuantityMax)
	if body.err != nil {
		return body.err
	}
	o, err := g.submit(c, &jobspb.SetCartLine{ClientId: clientID, ProductId: productID, Quantity: quantity})
	if err != nil {
		return err
	}
	return answerCartJob(c, o)
}

// removeLine takes a line out of a cart.
//
//	@Summary	Take a line out of a cart
//	@Tags		carts
//	@Produce	json,application/problem+json
//	@Param		clientID		path		string		true	"whose cart"
//	@Param		productID		path		string		true	"which line"
//	@Param		Idempotency-Key	header		string		false	"1 to 255 printable characters"
//	@Param		Prefer			header		string		false	"respond-async: do not wait for the result"
//	@Success	200				{object}	shopAnswer	"the line is gone, or there was none"
//	@Success	202				{object}	shopAnswer	"accepted, not finished; Location says where to ask"
//	@Failure	400				{object}	problem		"the request is wrong"
//	@Failure	422				{object}	problem		"the Idempotency-Key came before with another request"
//	@Failure	500				{object}	problem		"a fault of the shop"
//	@Failure	503				{object}	problem		"something is away"
//	@Router		/v1/carts/{clientID}/items/{productID} [delete]
func (g *gateway) removeLine(c *fiber.Ctx) error {
	clientID, productID, err := linePath(c)
	if err != nil {
		return err
	}
	o, err := g.submit(c, &jobspb.RemoveCartLine{ClientId: clientID, ProductId: productID})
	if err != nil {
		return err
	}
	return answerCartJob(c, o)
}

// clearCart takes everything out of a cart.
//
//	@Summary	Clear a cart
//	@Tags		carts
//	@Produce	json,application/problem+json
//	@Param		clientID		path		string		true	"whose cart"
//	@Param		Idempotency-Key	header		string		false	"1 to 255 printable characters"
//	@Param		Prefer			header		string		false	"respond-async: do not wait for the result"
//	@Success	200				{object}	shopAnswer	"the cart is empty"
//	@Success	202				{object}	shopAnswer	"accepted, not finished; Location says where to ask"
//	@Failure	400				{object}	problem		"the request is wrong"
//	@Failure	422				{object}	problem		"the Idempotency-Key came before with another request"
//	@Failure	500				{object}	problem		"a fault of the shop"
//	@Failure	503				{object}	problem		"something is away"
//	@Router		/v1/carts/{clientID} [delete]
func (g *gateway) clearCart(c *fiber.Ctx) error {
	clientID, err := pathID(c, "clientID")
	if err != nil {
		return err
	}
	o, err := g.submit(c, &jobspb.ClearCart{ClientId: clientID})
	if err != nil {
		return err
	}
	return answerCartJob(c, o)
}

// getCart shows a cart with the names and prices of now.
//
//	@Summary	Read a cart
//	@Tags		carts
//	@Produce	json,application/problem+json
//	@Param		clientID	path		string		true	"whose cart"
//	@Success	200			{object}	cartView	"the cart, empty for a client who has none"
//	@Failure	400			{object}	problem		"the request is wrong"
//	@Failure	500			{object}	problem		"a fault of the shop"
//	@Failure	503			{object}	problem		"something is away"
//	@Router		/v1/carts/{clientID} [get]
func (g *gateway) getCart(c *fiber.Ctx) error {
	clientID, err := pathID(c, "clientID")
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	cart, err := g.carts.GetCart(ctx, &cartpb.GetCartRequest{ClientId: clientID})
	if err != nil {
		return err
	}
	products, err := g.products(ctx, cart.GetLines())
	if err != nil {
		return err
	}
	return c.JSON(viewCart(clientID, cart, products))
}

// products looks up everything that is in a cart.
func (g *gateway) products(ctx context.Context, lines []*cartpb.CartLine) (pricelist.Products, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	productIDs := make([]string, len(lines))
	for i, line := range lines {
		productIDs[i] = line.GetProductId()
	}
	return g.list.Find(ctx, productIDs)
}

func viewCart(clientID string, cart *cartpb.GetCartResponse, products pricelist.Products) cartView {
	view := cartView{ClientID: clientID, Items: []cartItem{}, UpdatedAt: moment(cart.GetUpdatedAtUs())}
	var total money.Amount
	var sumErr error
	for _, line := range cart.GetLines() {
		item := cartItem{ProductID: line.GetProductId(), Quantity: line.GetQuantity()}
		if p := products[line.GetProductId()]; p != nil {
			item.Name = p.GetName()
			item.Price = &price{p.GetPriceMinor(), p.GetCurrency()}
			total, sumErr = plusLine(total, sumErr, item)
		}
		view.Items = append(view.Items, item)
	}
	if sumErr == nil && total.Currency != "" {
		view.Total = &price{total.Minor, total.Currency}
	}
	return view
}

func plusLine(total money.Amount, sumErr error, item cartItem) (money.Amount, error) {
	if sumErr != nil {
		return total, sumErr
	}
	line, err := money.Amount{Minor: item.Price.Amount, Currency: item.Price.Currency}.Times(item.Quantity)
	if err != nil {
		return total, err
	}
	return total.Plus(line)
}

// answerCartJob tells what became of a cart job.
func answerCartJob(c *fiber.Ctx, o outcome) error {
	if err := answerHead(c, o, "/v1/jobs/"); err != nil {
		return err
	}
	return c.JSON(shopAnswer{Status: word(o), JobID: o.jobID})
}

// answerHead sets code and headers of an outcome, or returns the error that it is.
func answerHead(c *fiber.Ctx, o outcome, askAt string) error {
	if o.replayed {
		c.Set(replayedHeader, "true")
	}
	switch {
	case o.accepted:
		c.Status(fiber.StatusAccepted)
		c.Set(fiber.HeaderLocation, askAt+o.jobID)
	case o.fault != nil:
		return &jobError{o.jobID, o.fault}
	}
	return nil
}

func word(o outcome) string {
	if o.accepted {
		return accepted
	}
	return success
}

func linePath(c *fiber.Ctx) (clientID, productID string, err error) {
	if clientID, err = pathID(c, "clientID"); err != nil {
		return "", "", err
	}
	productID, err = pathID(c, "productID")
	return clientID, productID, err
}
