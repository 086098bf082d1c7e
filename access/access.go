// Package access says who may call whom. Each RPC asks for a scope, and each caller has scopes at
// each service it calls. What is in neither table is refused.
package access

import (
	"slices"

	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"cartwright/internal/identity"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/inventorypb"
	"cartwright/proto/paymentspb"
)

// Scope is what an RPC asks for, and what a caller may have.
type Scope string

const (
	Public   Scope = "PUBLIC"   // everybody with a certificate; only RPCs ask for it
	Read     Scope = "READ"     // changes nothing
	Write    Scope = "WRITE"    // changes something; it does not include Read
	Wildcard Scope = "WILDCARD" // all of them; only callers have it
)

// methods says what each RPC of each service asks for.
var methods = map[string]Scope{
	cartpb.Carts_GetCart_FullMethodName:     Read,
	cartpb.Carts_GetCarts_FullMethodName:    Read,
	cartpb.Carts_GetJob_FullMethodName:      Read,
	cartpb.Carts_FreezeBatch_FullMethodName: Write,
	cartpb.Carts_ThawBatch_FullMethodName:   Write,

	cataloguepb.Catalogue_GetProducts_FullMethodName:  Read,
	cataloguepb.Catalogue_ListProducts_FullMethodName: Read,
	cataloguepb.Catalogue_PutProduct_FullMethodName:   Write,

	checkoutpb.Orders_GetOrder_FullMethodName:    Read,
	checkoutpb.Orders_ListOrders_FullMethodName:  Read,
	checkoutpb.Orders_RefuseBatch_FullMethodName: Write,

	checkoutpb.Checkouts_ListCheckouts_FullMethodName:  Read,
	checkoutpb.Checkouts_GetCheckout_FullMethodName:    Read,
	checkoutpb.Checkouts_ResumeCheckout_FullMethodName: Write,
	checkoutpb.Checkouts_UndoCheckout_FullMethodName:   Write,

	inventorypb.Inventory_GetAvailability_FullMethodName: Read,
	inventorypb.Inventory_Reserve_FullMethodName:         Write,
	inventorypb.Inventory_Commit_FullMethodName:          Write,
	inventorypb.Inventory_Rollback_FullMethodName:        Write,
	inventorypb.Inventory_Adjust_FullMethodName:          Write,
	inventorypb.Inventory_ReserveBatch_FullMethodName:    Write,
	inventorypb.Inventory_CommitBatch_FullMethodName:     Write,
	inventorypb.Inventory_RollbackBatch_FullMethodName:   Write,

	paymentspb.Payments_Charge_FullMethodName:      Write,
	paymentspb.Payments_ChargeBatch_FullMethodName: Write,
	paymentspb.Payments_Refund_FullMethodName:      Write,

	grpc_health_v1.Health_Check_FullMethodName: Public,
	grpc_health_v1.Health_Watch_FullMethodName: Public,
	grpc_health_v1.Health_List_FullMethodName:  Public,

	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName:      Read,
	reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: Read,
}

// call is one party calling another.
type call struct{ caller, called string }

// anyService stands for all that can be called.
const anyService = "*"

// grants says which scopes a caller has at a service.
var grants = map[call][]Scope{
	{"gateway", "catalogue"}:           {Read, Write}, // staff change products
	{"gateway", "inventory"}:           {Read, Write}, // staff adjust stock
	{"gateway", "cartmanager"}:         {Read},
	{"gateway", "checkoutmanager"}:     {Read, Write}, // what is sold out is refused at the door; staff look after checkouts
	{"cartmanager", "catalogue"}:       {Read},
	{"cartmanager", "inventory"}:       {Read},
	{"checkoutmanager", "cartmanager"}: {Write},
	{"checkoutmanager", "inventory"}:   {Write},
	{"checkoutmanager", "payments"}:    {Write},
	{"operator", anyService}:           {Wildcard},
	{"observer", anyService}:           {Read},
}

// Allows tells whether caller may call a method of the service called; method is in gRPC's form,
// /package.Service/Method.
func Allows(caller, called, method string) bool {
	asked, known := methods[method]
	if !known {
		return false
	}
	return asked == Public || holds(call{caller, called}, asked) || holds(call{caller, anyService}, asked)
}

func holds(c call, asked Scope) bool {
	held := grants[c]
	return slices.Contains(held, asked) || slices.Contains(held, Wildcard)
}

// Subjects are all who have a certificate: the services, and people.
func Subjects() []identity.Subject {
	return []identity.Subject{
		{Name: "gateway"}, {Name: "cartmanager"}, {Name: "checkoutmanager"}, {Name: "inventory"}, {Name: "payments"}, {Name: "catalogue"},
		{Name: "operator", Person: true}, // may call everything
		{Name: "observer", Person: true}, // may ask everything
	}
}
