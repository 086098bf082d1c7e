package verify

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"cartwright/internal/store"
	schema "cartwright/sql"
)

// pageRows is how many rows a query of the walk returns: enough that asking costs nothing beside
// reading, and so few that no query keeps the server from tidying up for long.
const pageRows = 5000

// table is a table with rows of checkouts.
type table struct {
	from    string   // what is narrowed down by an AND
	columns []string // the first has the checkout's ID
	order   string   // behind the ID, where a checkout has more than one row
	put     func(c *checkout, row []string)
}

// tables are all the tables with rows of checkouts.
var tables = []table{
	{"{checkouts}.orders WHERE TRUE", []string{"checkout_id", "order_id", "state", "currency", "total_minor"}, "", func(c *checkout, row []string) {
		c.order = &order{row[1], row[2], row[3], number(row[4])}
	}},
	{"{checkouts}.order_lines WHERE TRUE", []string{"checkout_id", "product_id", "quantity", "unit_price_minor"}, ", product_id", func(c *checkout, row []string) {
		c.bought = append(c.bought, boughtLine{row[1], number(row[2]), number(row[3])})
	}},
	{"{inventory}.reservations WHERE TRUE", []string{"reservation_id", "state", "contents"}, "", func(c *checkout, row []string) {
		c.reservation = &reservation{row[1], row[2]}
	}},
	{"{inventory}.stock_movements WHERE kind <> 'adjusted'", []string{"reference", "product_id", "kind", "delta"}, ", product_id, kind", func(c *checkout, row []string) {
		c.movements = append(c.movements, movement{row[1], row[2], number(row[3])})
	}},
	{"{payments}.payments WHERE TRUE", []string{"payment_id", "order_id", "state", "currency", "provider", "amount_minor"}, "", func(c *checkout, row []string) {
		c.payment = &payment{row[1], row[2], row[3], row[4], number(row[5])}
	}},
	{"{payments}.test_provider_charges WHERE TRUE", []string{"idempotency_key", "outcome", "currency", "amount_minor", "refunded_minor"}, "", func(c *checkout, row []string) {
		c.charge = &charge{row[1], row[2], number(row[3]), number(row[4])}
	}},
	{"{carts}.freezes WHERE TRUE", []string{"checkout_id", "client_id", "state"}, "", func(c *checkout, row []string) {
		c.freeze = &freeze{row[1], row[2]}
	}},
}

// number reads a BIGINT, as which a server writes nothing but a number.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// query selects the rows for which a condition on the ID holds.
func (t table) query(namespace, condition string) string {
	id := t.columns[0]
	return schema.InNamespace("SELECT "+strings.Join(t.columns, ", ")+" FROM "+t.from+" AND "+id+" "+condition+" ORDER BY "+id+t.order, namespace)
}

// page is a run of rows in the order of their checkouts' IDs, or why there is none. All text of it is
// in one string, since to ask for memory for each of millions of rows would take longer than to read them.
type page struct {
	width int // columns
	text  string
	ends  []int32 // of each cell in the text, row by row
	err   error
}

func (p *page) rows() int {
	if p.width == 0 {
		return 0
	}
	return len(p.ends) / p.width
}

func (p *page) cell(row, column int) string {
	i := row*p.width + column
	if i == 0 {
		return p.text[:p.ends[0]]
	}
	return p.text[p.ends[i-1]:p.ends[i]]
}

// readPage reads what a query gave, which is about as much as the page before.
func (t table) readPage(rows *sql.Rows, err error, before page) page {
	p := page{width: len(t.columns), ends: make([]int32, 0, len(before.ends)+before.width)}
	var text strings.Builder
	text.Grow(len(before.text) + len(before.text)/8)
	cells := make([]sql.RawBytes, p.width)
	dest := make([]any, p.width)
	for i := range cells {
		dest[i] = &cells[i]
	}
	p.err = each(rows, err, dest, func() error {
		for _, c := range cells {
			text.Write(c)
			p.ends = append(p.ends, int32(text.Len()))
		}
		return nil
	})
	p.text = text.String()
	return p
}

// dropLast drops the rows of the last checkout.
func (p *page) dropLast() error {
	n := p.rows()
	last := p.cell(n-1, 0)
	for n > 0 && p.cell(n-1, 0) == last {
		n--
	}
	if n == 0 {
		return fmt.Errorf("%s has %d rows and more, which nothing in this system makes", last, pageRows)
	}
	p.ends = p.ends[:n*p.width]
	return nil
}

// stream gives the rows of its page, and then those of the pages that come.
type stream struct {
	table table
	page  page
	at    int // the row of the page that comes next
	pages chan page
	row   []string
}

// walk reads all rows of a table, a page at a time and one page ahead.
func (t table) walk(ctx context.Context, db *sql.DB, namespace string) *stream {
	s := &stream{table: t, pages: make(chan page)}
	go s.readOn(ctx, db, namespace)
	return s
}

func (s *stream) readOn(ctx context.Context, db *sql.DB, namespace string) {
	defer close(s.pages)
	query := s.table.query(namespace, "> ?") + fmt.Sprintf(" LIMIT %d", pageRows)
	var p page
	for after, more := "", true; more; {
		rows, err := db.QueryContext(ctx, query, after)
		p = s.table.readPage(rows, err, p)
		if more = p.err == nil && p.rows() == pageRows; more {
			p.err = p.dropLast() // of which the next page may have more
		}
		if n := p.rows(); p.err == nil && n > 0 {
			after = p.cell(n-1, 0)
		}
		select {
		case s.pages <- p:
		case <-ctx.Done():
			return
		}
	}
}

// read reads the rows of those checkouts.
func (t table) read(ctx context.Context, conn *sql.Conn, namespace string, ids []any) (*stream, error) {
	rows, err := conn.QueryContext(ctx, t.query(namespace, "IN "+store.In(len(ids))), ids...)
	s := &stream{table: t, page: t.readPage(rows, err, page{}), pages: make(chan page)}
	close(s.pages)
	return s, s.page.err
}

// next returns the ID of the rows that come next, "" when there are none left.
func (s *stream) next() (id string, err error) {
	for s.at == s.page.rows() {
		p, more := <-s.pages
		if !more {
			return "", nil
		}
		if p.err != nil {
			return "", p.err
		}
		s.page, s.at = p, 0
	}
	return s.page.cell(s.at, 0), nil
}

// take puts all rows of a checkout, which come next, into c.
func (s *stream) take(c *checkout) {
	for ; s.at < s.page.rows() && s.page.cell(s.at, 0) == c.id; s.at++ {
		s.row = s.row[:0]
		for column := range s.page.width {
			s.row = append(s.row, s.page.cell(s.at, column))
		}
		s.table.put(c, s.row)
	}
}

// end waits until nothing reads any more, once the context of the walk is done.
func (s *stream) end() {
	for range s.pages {
	}
}

// merge puts together what the streams have of each checkout, in the order of IDs. use may keep
// nothing of it.
func merge(streams []*stream, use func(c *checkout) error) error {
	c := &checkout{}
	heads := make([]string, len(streams))
	for {
		least := ""
		for i, s := range streams {
			id, err := s.next()
			if err != nil {
				return err
			}
			if heads[i] = id; id != "" && (least == "" || id < least) {
				least = id
			}
		}
		if least == "" {
			return nil
		}
		c.reset(least)
		for i, s := range streams {
			if heads[i] == least {
				s.take(c)
			}
		}
		c.readContents()
		if err := use(c); err != nil {
			return err
		}
	}
}
