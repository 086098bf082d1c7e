package gateway

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/checkoutpb"
)

// orderView is an order as its owner sees it.
type orderView struct {
	OrderID  string `json:"orderID" example:"0199d3b2-7c1e-7aa0-8f53-5a2f6d1c9e10"`
	ClientID string `json:"clientID" example:"client-1"`
	Status   string `json:"status" enums:"PENDING,PAID,CANCELLED" example:"PAID"`
	// Why it was cancelled.
	Reason string `json:"reason,omitempty"`
	// Empty until the checkout has ended.
	Items []orderItem `json:"items"`
	// Null until the checkout has ended.
	Total     *price  `json:"total"`
	CreatedAt *string `json:"createdAt" format:"date-time"`
	UpdatedAt *string `json:"updatedAt" format:"date-time"`
} // @name Order

// orderItem is a line of an order, with the name and price at which it was sold.
type orderItem struct {
	ProductID string `json:"productID" example:"tea"`
	Name      string `json:"name" example:"Green tea"`
	Quantity  int64  `json:"quantity" example:"2"`
	Price     price  `json:"price"`
} // @name OrderItem

// orderPage is a part of a client's orders, newest first.
type orderPage struct {
	Orders []orderView `json:"orders"`
	// Ask for the next part with it; absent on the last.
	NextCursor string `json:"nextCursor,omitempty"`
} // @name Orders

// jobView tells what became of a job.
type jobView struct {
	JobID  string `json:"jobID"`
	Status string `json:"status" enums:"Accepted,Success,Failed" example:"Success"`
	// Why it failed.
	Error string `json:"error,omitempty"`
} // @name Job

// getOrder shows one order.
//
//	@Summary	Read an order
//	@Tags		orders
//	@Produce	json,application/problem+json
//	@Param		orderID	path		string		true	"which order"
//	@Success	200		{object}	orderView	"the order"
//	@Failure	400		{object}	problem		"the request is wrong"
//	@Failure	404		{object}	problem		"no such order"
//	@Failure	500		{object}	problem		"a fault of the shop"
//	@Failure	503		{object}	problem		"something is away"
//	@Router		/v1/orders/{orderID} [get]
func (g *gateway) getOrder(c *fiber.Ctx) error {
	id, err := pathID(c, "orderID")
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	order, err := g.orders.GetOrder(ctx, &checkoutpb.GetOrderRequest{OrderId: id})
	if err == nil {
		return c.JSON(viewOrder(order))
	}
	job, known := g.accepted.find(id, traceOf(c).began)
	if !known || job.Kind != jobs.StartCheckout || !ownerDoesNotKnow(err) {
		return err
	}
	at := moment(job.At.UnixMicro())
	return c.JSON(orderView{
		OrderID: id, ClientID: job.ClientID, Status: statusWord(checkoutpb.Status_STATUS_PENDING), Items: []orderItem{}, CreatedAt: at, UpdatedAt: at,
	})
}

// ownerDoesNotKnow tells whether an error leaves open what became of a job that this gateway has
// accepted: no worker has begun with it yet, or the service that would know cannot be reached.
func ownerDoesNotKnow(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unavailable)
}

// listOrders shows a client's orders, newest first.
//
//	@Summary	List a client's orders, newest first
//	@Tags		orders
//	@Produce	json,application/problem+json
//	@Param		clientID	query		string		true	"whose orders"
//	@Param		limit		query		int			false	"how many"	minimum(1)	maximum(100)	default(20)
//	@Param		cursor		query		string		false	"nextCursor of an earlier answer"
//	@Success	200			{object}	orderPage	"a part of the list"
//	@Failure	400			{object}	problem		"the request is wrong"
//	@Failure	500			{object}	problem		"a fault of the shop"
//	@Failure	503			{object}	problem		"something is away"
//	@Router		/v1/orders [get]
func (g *gateway) listOrders(c *fiber.Ctx) error {
	clientID := c.Query("clientID")
	if !ids.Valid(clientID) {
		return fault.InvalidField("clientID", ids.Shape)
	}
	limit, cursor, err := page(c)
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	resp, err := g.orders.ListOrders(ctx, &checkoutpb.ListOrdersRequest{ClientId: clientID, Limit: limit, Cursor: cursor})
	if err != nil {
		return err
	}
	view := orderPage{Orders: []orderView{}, NextCursor: resp.GetNextCursor()}
	for _, order := range resp.GetOrders() {
		view.Orders = append(view.Orders, viewOrder(order))
	}
	return c.JSON(view)
}

// getJob tells what became of a change of a cart.
//
//	@Summary	What became of a job
//	@Tags		shop
//	@Produce	json,application/problem+json
//	@Param		jobID	path		string	true	"which job"
//	@Success	200		{object}	jobView	"what is known of it"
//	@Failure	400		{object}	problem	"the request is wrong"
//	@Failure	404		{object}	problem	"no such job in the last 24 hours"
//	@Failure	500		{object}	problem	"a fault of the shop"
//	@Failure	503		{object}	problem	"something is away"
//	@Router		/v1/jobs/{jobID} [get]
func (g *gateway) getJob(c *fiber.Ctx) error {
	id, err := pathID(c, "jobID")
	if err != nil {
		return err
	}
	ctx, cancel := asking(c)
	defer cancel()
	job, err := g.carts.GetJob(ctx, &cartpb.GetJobRequest{JobId: id})
	if err == nil {
		return c.JSON(viewJob(id, job))
	}
	known, is := g.accepted.find(id, traceOf(c).began)
	if !is || known.Kind == jobs.StartCheckout || !ownerDoesNotKnow(err) {
		return err
	}
	return c.JSON(jobView{JobID: id, Status: accepted})
}

func viewJob(id string, job *cartpb.GetJobResponse) jobView {
	if err := fault.FromProto(job.GetFault()); err != nil {
		return jobView{JobID: id, Status: failed, Error: describe(err).Detail}
	}
	return jobView{JobID: id, Status: success}
}

func viewOrder(o *checkoutpb.Order) orderView {
	view := orderView{
		OrderID: o.GetOrderId(), ClientID: o.GetClientId(), Status: statusWord(o.GetStatus()), Reason: o.GetReason(),
		Items: []orderItem{}, CreatedAt: moment(o.GetCreatedAtUs()), UpdatedAt: moment(o.GetUpdatedAtUs()),
	}
	for _, line := range o.GetLines() {
		view.Items = append(view.Items, orderItem{
			ProductID: line.GetProductId(), Name: line.GetName(), Quantity: line.GetQuantity(),
			Price: price{line.GetUnitPriceMinor(), o.GetCurrency()},
		})
	}
	if o.GetCurrency() != "" {
		view.Total = &price{o.GetTotalMinor(), o.GetCurrency()}
	}
	return view
}

// statusWord is an order's status as clients know it.
func statusWord(s checkoutpb.Status) string { return strings.TrimPrefix(s.String(), "STATUS_") }
