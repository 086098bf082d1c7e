package checkoutmanager

import (
	"context"
	"database/sql"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/store"
	"cartwright/proto/checkoutpb"
)

const (
	pageMax = 100
	// cursorMaxUs is the last moment that a database takes, 9999-12-31, in microseconds since 1970.
	cursorMaxUs = 253_402_300_799_999_999
)

// server answers questions about orders, and makes those that never begin.
type server struct {
	checkoutpb.UnimplementedOrdersServer
	db     *sql.DB
	orders *orders
}

const orderColumns = `checkout_id, order_id, client_id, state, reason_code, reason, total_minor, currency, created_at, updated_at`

// GetOrder reads one order; fault.NotFound when no checkout with this ID has begun.
func (s *server) GetOrder(ctx context.Context, req *checkoutpb.GetOrderRequest) (*checkoutpb.Order, error) {
	if !ids.Valid(req.GetOrderId()) {
		return nil, fault.InvalidField("order_id", ids.Shape)
	}
	found, err := s.query(ctx, `WHERE order_id = ?`, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "unknown_order", "there is no order %s", req.GetOrderId())
	}
	return found[0].Order, nil
}

// listed is an order with the ID of its checkout, which customers are not shown.
type listed struct {
	*checkoutpb.Order
	checkoutID string
}

// A page of a client's orders, and one that begins after another. A server may think that it is
// cheaper to read all of a client's orders up to there, so the index is named.
const (
	firstPage = clientIndex + ` WHERE client_id = ?` + newestFirst
	nextPage  = clientIndex + ` WHERE client_id = ? AND (created_at < ? OR created_at = ? AND checkout_id < ?)` + newestFirst

	clientIndex = `FORCE INDEX (client_orders)`
	newestFirst = ` ORDER BY created_at DESC, checkout_id DESC LIMIT ?`
)

// ListOrders reads one page of a client's orders, newest first. The cursor names the last order of
// the page before, so pages stay whole while new orders come in.
func (s *server) ListOrders(ctx context.Context, req *checkoutpb.ListOrdersRequest) (*checkoutpb.ListOrdersResponse, error) {
	limit := int(req.GetLimit())
	switch {
	case !ids.Valid(req.GetClientId()):
		return nil, fault.InvalidField("client_id", ids.Shape)
	case limit < 1 || limit > pageMax:
		return nil, fault.InvalidField("limit", "must be 1 to %d", pageMax)
	}
	page, args := firstPage, []any{req.GetClientId()}
	if req.GetCursor() != "" {
		at, id, err := readCursor(req.GetCursor())
		if err != nil {
			return nil, err
		}
		page, args = nextPage, append(args, at, at, id)
	}
	found, err := s.query(ctx, page, append(args, limit+1)...)
	if err != nil {
		return nil, err
	}
	resp := &checkoutpb.ListOrdersResponse{}
	if len(found) > limit {
		found = found[:limit]
		resp.NextCursor = writeCursor(found[limit-1])
	}
	for _, o := range found {
		resp.Orders = append(resp.Orders, o.Order)
	}
	return resp, nil
}

func writeCursor(o listed) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(o.GetCreatedAtUs(), 10) + " " + o.checkoutID))
}

func readCursor(s string) (at time.Time, id string, err error) {
	raw, decodeErr := base64.RawURLEncoding.DecodeString(s)
	micros, id, found := strings.Cut(string(raw), " ")
	n, parseErr := strconv.ParseInt(micros, 10, 64)
	if decodeErr != nil || parseErr != nil || n < 0 || n > cursorMaxUs || !found || !ids.Valid(id) {
		return time.Time{}, "", fault.InvalidField("cursor", "is none that this service gave")
	}
	return time.UnixMicro(n).UTC(), id, nil
}

// query reads orders with their lines.
func (s *server) query(ctx context.Context, rest string, args ...any) ([]listed, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+orderColumns+` FROM orders `+rest, args...)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	var found []listed
	for rows.Next() {
		o := listed{Order: &checkoutpb.Order{}}
		var saved state
		var created, updated time.Time
		if err := rows.Scan(&o.checkoutID, &o.OrderId, &o.ClientId, &saved, &o.ReasonCode, &o.Reason, &o.TotalMinor, &o.Currency, &created, &updated); err != nil {
			return nil, store.Classify(err)
		}
		o.Status, o.CreatedAtUs, o.UpdatedAtUs = status(saved), created.UnixMicro(), updated.UnixMicro()
		found = append(found, o)
	}
	if err := rows.Err(); err != nil {
		return nil, store.Classify(err)
	}
	return found, s.addLines(ctx, found)
}

// addLines reads the lines of several orders at once.
func (s *server) addLines(ctx context.Context, orders []listed) error {
	if len(orders) == 0 {
		return nil
	}
	byID := map[string]*checkoutpb.Order{}
	var args []any
	for _, o := range orders {
		byID[o.checkoutID] = o.Order
		args = append(args, o.checkoutID)
	}
	rows, err := s.db.QueryContext(ctx, `
		SELECT   checkout_id, product_id, name, quantity, unit_price_minor
		FROM     order_lines
		WHERE    checkout_id IN `+store.In(len(args))+`
		ORDER BY checkout_id, product_id`, args...)
	if err != nil {
		return store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		l := &checkoutpb.OrderLine{}
		if err := rows.Scan(&id, &l.ProductId, &l.Name, &l.Quantity, &l.UnitPriceMinor); err != nil {
			return store.Classify(err)
		}
		byID[id].Lines = append(byID[id].Lines, l)
	}
	return store.Classify(rows.Err())
}

// status is what a checkout's state means to the customer.
func status(s state) checkoutpb.Status {
	switch s {
	case placed:
		return checkoutpb.Status_STATUS_PAID
	case failed:
		return checkoutpb.Status_STATUS_CANCELLED
	default:
		return checkoutpb.Status_STATUS_PENDING
	}
}
