package gateway

import (
	"github.com/gofiber/fiber/v2"

	"cartwright/proto/jobspb"
)

// checkoutRequest is the body of a checkout.
type checkoutRequest struct {
	ClientID string `json:"clientID" minLength:"1" maxLength:"64" example:"client-1" validate:"required"`
	// A token of the payment provider, never a card number. Without one the provider's default is used.
	PaymentMethod string `json:"paymentMethod,omitempty" maxLength:"64" example:"tok_visa"`
	Email         string `json:"email,omitempty" maxLength:"254" format:"email" example:"jo@example.com"`
} // @name CheckOutCart

// checkOutCart turns a cart into a paid order.
//
//	@Summary		Check a cart out
//	@Description	Reserves the stock, takes the payment and places the order, or leaves everything as it was. Sent again with the same Idempotency-Key and body, it is done once and answered alike.
//	@Tags			shop
//	@Accept			json
//	@Produce		json
//	@Param			Idempotency-Key	header		string			false	"1 to 255 printable characters"
//	@Param			Prefer			header		string			false	"respond-async: do not wait for the result"
//	@Param			body			body		checkoutRequest	true	"whose cart, and how it is paid"
//	@Success		200				{object}	shopAnswer		"paid"
//	@Success		202				{object}	shopAnswer		"accepted, not finished; Location says where to ask"
//	@Failure		400				{object}	shopAnswer		"the request is wrong; the error begins with the field"
//	@Failure		402				{object}	shopAnswer		"the payment was declined"
//	@Failure		404				{object}	shopAnswer		"no such product"
//	@Failure		409				{object}	shopAnswer		"refused, such as an empty cart or short stock"
//	@Failure		413				{object}	shopAnswer		"the body is larger than 64 KiB"
//	@Failure		415				{object}	shopAnswer		"the body is no application/json"
//	@Failure		422				{object}	shopAnswer		"the Idempotency-Key came before with another body"
//	@Failure		500				{object}	shopAnswer		"a fault of the shop"
//	@Failure		503				{object}	shopAnswer		"something is away; ask again after Retry-After with the same Idempotency-Key"
//	@Router			/checkOutCart [post]
func (g *gateway) checkOutCart(c *fiber.Ctx) error {
	body := readBody(c, "clientID", "paymentMethod", "email")
	job := &jobspb.StartCheckout{
		ClientId:      body.id("clientID"),
		PaymentMethod: body.optional("paymentMethod"),
		Email:         body.optional("email"),
	}
	if body.err != nil {
		return body.err
	}
	o, err := g.submit(c, job)
	if err != nil {
		return err
	}
	if err := answerHead(c, o, "/v1/orders/"); err != nil {
		return err
	}
	return c.JSON(shopAnswer{Status: word(o), OrderID: o.jobID})
}
