package floor

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cartwright/internal/store"
)

// The two methods. Their message is the orders' IDs, one behind the other.
const (
	inventoryService = "floor.Inventory"
	reserveMethod    = "/" + inventoryService + "/Reserve"
	commitMethod     = "/" + inventoryService + "/Commit"
)

// idLen is how long an order's ID is. From idRandom on it is random, whenever it was made.
const (
	idLen    = 36
	idRandom = 28
)

// inventory keeps the stock.
type inventory struct {
	db       *sql.DB
	products uint64
}

func runInventory(ctx context.Context, s Settings, products int, ready func(address string)) error {
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := store.Ping(ctx, db); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("gRPC port: %w", err)
	}
	i := &inventory{db, uint64(products)}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: inventoryService,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Reserve", Handler: i.handler(reserve)},
			{MethodName: "Commit", Handler: i.handler(commit)},
		},
	}, i)
	ready(listener.Addr().String())
	return server.Serve(listener)
}

// handler does one thing for a whole batch in one transaction.
func (i *inventory) handler(do func(context.Context, *store.Tx, taking) error) grpc.MethodHandler {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		request := new(wrapperspb.StringValue)
		if err := decode(request); err != nil {
			return nil, err
		}
		what, err := i.unpack(request.GetValue())
		if err != nil {
			return nil, err
		}
		err = store.InTx(ctx, i.db, func(ctx context.Context, tx *store.Tx) error { return do(ctx, tx, what) })
		return new(wrapperspb.StringValue), err
	}
}

// taking is what a batch of orders takes: each one unit of one product.
type taking struct {
	orders   []any // IDs
	rows     []any // ID and product of each order
	products []any // in the order in which their rows are locked
	units    []any // product and units of each
}

// unpack reads the IDs. Which product an order takes follows from its ID, so both methods agree.
func (i *inventory) unpack(packed string) (t taking, err error) {
	units := map[uint64]int{}
	for ; len(packed) >= idLen; packed = packed[idLen:] {
		id := packed[:idLen]
		random, err := strconv.ParseUint(id[idRandom:], 16, 64)
		if err != nil {
			return t, fmt.Errorf("order %s: %w", id, err)
		}
		product := random % i.products
		units[product]++
		t.orders = append(t.orders, id)
		t.rows = append(t.rows, id, product)
	}
	for _, product := range slices.Sorted(maps.Keys(units)) {
		t.products = append(t.products, product)
		t.units = append(t.units, product, units[product])
	}
	return t, nil
}

// unitsByProduct is an expression for the units of the row at hand, over the arguments of taking.units.
func (t taking) unitsByProduct() string {
	return "(CASE product" + strings.Repeat(" WHEN ? THEN ?", len(t.products)) + " END)"
}

// reserve locks the shelves, takes the units off what is free, and notes who has them.
func reserve(ctx context.Context, tx *store.Tx, t taking) error {
	shelves := store.In(len(t.products))
	rows, err := tx.QueryContext(ctx, "SELECT product, on_hand, reserved FROM stock WHERE product IN "+shelves+" ORDER BY product FOR UPDATE", t.products...)
	if err != nil {
		return err
	}
	for rows.Next() {
		// Nothing is decided here; a shop does it at this place.
	}
	if err := rows.Err(); err != nil {
		return err
	}
	args := slices.Concat(t.units, t.products)
	if err := tx.Write(ctx, "UPDATE stock SET reserved = reserved + "+t.unitsByProduct()+" WHERE product IN "+shelves, args...); err != nil {
		return err
	}
	return tx.Write(ctx, "INSERT IGNORE INTO reservations (id, product, units, state) VALUES "+store.Tuples(len(t.orders), "(?, ?, 1, 0)"), t.rows...)
}

// commit takes the units off the shelves.
func commit(ctx context.Context, tx *store.Tx, t taking) error {
	if err := tx.Write(ctx, "UPDATE reservations SET state = 1 WHERE id IN "+store.In(len(t.orders)), t.orders...); err != nil {
		return err
	}
	by := t.unitsByProduct()
	args := slices.Concat(t.units, t.units, t.products)
	return tx.Write(ctx, "UPDATE stock SET reserved = reserved - "+by+", on_hand = on_hand - "+by+" WHERE product IN "+store.In(len(t.products)), args...)
}
