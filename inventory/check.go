package inventory

import (
	"fmt"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/proto/inventorypb"
)

// Limits of what a call may ask for, as the contract says them.
const (
	linesMax    = 200
	quantityMax = 10_000
	deltaMax    = 1_000_000_000
	productsMax = 1_000
	batchMax    = 256
)

// checkID says whether a field holds an identifier. Field names an element as lines[1].product_id.
func checkID(field, id string) error {
	if !ids.Valid(id) {
		return fault.InvalidField(field, ids.Shape)
	}
	return nil
}

func checkCount(field string, n, most int) error {
	if n < 1 || n > most {
		return fault.InvalidField(field, "must be 1 to %d, not %d", most, n)
	}
	return nil
}

// wish turns the lines of a request into one line per product, in the order first asked.
func wish(asked []*inventorypb.Line) ([]line, error) {
	if err := checkCount("lines", len(asked), linesMax); err != nil {
		return nil, err
	}
	at := make(map[string]int, len(asked))
	lines := make([]line, 0, len(asked))
	for i, a := range asked {
		if err := checkID(fmt.Sprintf("lines[%d].product_id", i), a.GetProductId()); err != nil {
			return nil, err
		}
		if a.GetQuantity() < 1 || a.GetQuantity() > quantityMax {
			return nil, fault.InvalidField(fmt.Sprintf("lines[%d].quantity", i), "must be 1 to %d", quantityMax)
		}
		n, seen := at[a.GetProductId()]
		if !seen {
			n = len(lines)
			at[a.GetProductId()] = n
			lines = append(lines, line{Product: a.GetProductId()})
		}
		lines[n].Quantity += a.GetQuantity()
	}
	return lines, nil
}

// The operations that requests ask for, or what is wrong with them.

func reserveOp(req *inventorypb.ReserveRequest) (operation, error) {
	if err := checkID("reservation_id", req.GetReservationId()); err != nil {
		return operation{}, err
	}
	lines, err := wish(req.GetLines())
	return operation{verb: reserve, id: req.GetReservationId(), lines: lines}, err
}

func commitOp(req *inventorypb.CommitRequest) (operation, error) {
	return operation{verb: commit, id: req.GetReservationId()}, checkID("reservation_id", req.GetReservationId())
}

func rollbackOp(req *inventorypb.RollbackRequest) (operation, error) {
	return operation{verb: rollback, id: req.GetReservationId()}, checkID("reservation_id", req.GetReservationId())
}

func adjustOp(req *inventorypb.AdjustRequest) (operation, error) {
	o := operation{verb: adjust, id: req.GetAdjustmentId(), product: req.GetProductId(), delta: req.GetDelta()}
	if err := checkID("adjustment_id", o.id); err != nil {
		return o, err
	}
	if err := checkID("product_id", o.product); err != nil {
		return o, err
	}
	if o.delta < -deltaMax || o.delta > deltaMax {
		return o, fault.InvalidField("delta", "must be %d to %d", -deltaMax, deltaMax)
	}
	var known bool
	if o.kind, known = kindOf[req.GetKind()]; !known {
		return o, fault.InvalidField("kind", "is unknown")
	}
	return o, nil
}

var kindOf = map[inventorypb.Kind]kind{
	inventorypb.Kind_KIND_UNSPECIFIED: "",
	inventorypb.Kind_KIND_FINITE:      finite,
	inventorypb.Kind_KIND_INFINITE:    infinite,
}

func stockOf(s shelf) *inventorypb.Stock {
	k := inventorypb.Kind_KIND_FINITE
	if s.kind == infinite {
		k = inventorypb.Kind_KIND_INFINITE
	}
	return &inventorypb.Stock{ProductId: s.product, Kind: k, OnHand: s.onHand, Reserved: s.reserved, Available: s.available()}
}
