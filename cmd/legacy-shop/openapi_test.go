package main

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type openAPIDocument struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
			Enum       []string                   `json:"enum"`
		} `json:"schemas"`
		Parameters map[string]json.RawMessage `json:"parameters"`
		Responses  map[string]json.RawMessage `json:"responses"`
		Headers    map[string]json.RawMessage `json:"headers"`
	} `json:"components"`
}

func readOpenAPI(t *testing.T) openAPIDocument {
	t.Helper()
	var doc openAPIDocument
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return doc
}

var pathParameter = regexp.MustCompile(`:(\w+)`)

func TestOpenAPIHasExactlyTheRoutes(t *testing.T) {
	doc := readOpenAPI(t)
	var served, described []string
	for _, r := range (&shop{}).routes().Routes() {
		served = append(served, r.Method+" "+pathParameter.ReplaceAllString(r.Path, "{$1}"))
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(described)
	if len(served) < 30 {
		t.Fatalf("only %d routes are served", len(served))
	}
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("openapi.json differs from the routes (-served +described):\n%s", diff)
	}
}

func TestOpenAPIHasExactlyTheFields(t *testing.T) {
	doc := readOpenAPI(t)
	checked := map[string]bool{"Amount": true, "BusinessTime": true, "Status": true}
	for name, value := range map[string]any{
		"Problem": problem{}, "FieldProblem": fieldProblem{}, "AddressRequest": addressRequest{}, "CustomerRequest": customerRequest{},
		"CustomerChange": customerChange{}, "Customer": customerAnswer{}, "Address": addressAnswer{}, "CustomerRegistered": customerRegistered{},
		"Created": idAnswer{}, "ProductRequest": productRequest{}, "PriceListRequest": productsRequest{}, "Counted": countAnswer{},
		"PriceRequest": priceRequest{}, "Product": productAnswer{}, "Quote": quoteAnswer{}, "StockAdjustmentRequest": adjustmentRequest{},
		"CartRequest": cartRequest{}, "CartItemRequest": cartItemRequest{}, "Cart": cartAnswer{}, "CartItem": cartItem{},
		"OrderLineRequest": lineRequest{}, "OrderRequest": orderRequest{}, "OrderPlaced": orderPlaced{}, "Rejection": rejectionLine{},
		"CheckResult": checkResult{}, "ValidationRequest": validationRequest{}, "OrderStatus": statusAnswer{},
		"PaymentAttemptRequest": paymentRequest{}, "PaymentAttemptResult": paymentAnswer{}, "InvoiceRequest": invoiceRequest{},
		"InvoiceIssued": invoiceAnswer{}, "ShipmentRequest": shipmentRequest{}, "CancellationRequest": cancellationRequest{},
		"ReturnLineRequest": returnLine{}, "ReturnRequest": returnRequest{}, "ReturnAccepted": returnAccepted{}, "FeeLine": feeLine{},
		"FeeRequest": feeRequest{}, "OrderSummary": orderSummary{}, "OrderLine": orderLine{}, "Validation": validationLine{},
		"PaymentAttempt": attemptLine{}, "Payment": paymentLine{}, "Invoice": invoiceLine{}, "Shipment": shipmentLine{},
		"Return": returnSummary{}, "Fee": feeSummary{}, "StockAdjustment": adjustmentSummary{}, "Order": orderDetail{},
	} {
		checked[name] = true
		var described []string
		for field := range doc.Components.Schemas[name].Properties {
			described = append(described, field)
		}
		slices.Sort(described)
		if diff := cmp.Diff(jsonFields(reflect.TypeOf(value)), described); diff != "" {
			t.Errorf("schema %s (-code +document):\n%s", name, diff)
		}
	}
	for name := range doc.Components.Schemas {
		if !checked[name] {
			t.Errorf("schema %s is compared with no type", name)
		}
	}
	statuses := []string{statusPlaced, statusRejected, statusValidated, statusValidationFailed, statusPaid, statusShipped, statusCancelled, statusReturned}
	if diff := cmp.Diff(statuses, doc.Components.Schemas["Status"].Enum); diff != "" {
		t.Errorf("statuses (-code +document):\n%s", diff)
	}
}

func jsonFields(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

var reference = regexp.MustCompile(`"#/components/(\w+)/(\w+)"`)

func TestOpenAPIRefersToWhatItHas(t *testing.T) {
	doc := readOpenAPI(t)
	found := reference.FindAllStringSubmatch(string(openAPI), -1)
	if len(found) == 0 {
		t.Fatal("no references found")
	}
	for _, m := range found {
		var there bool
		switch m[1] {
		case "schemas":
			_, there = doc.Components.Schemas[m[2]]
		case "parameters":
			_, there = doc.Components.Parameters[m[2]]
		case "responses":
			_, there = doc.Components.Responses[m[2]]
		case "headers":
			_, there = doc.Components.Headers[m[2]]
		}
		if !there {
			t.Errorf("%s is not there", m[0])
		}
	}
}

func TestOpenAPITellsOfTheToken(t *testing.T) {
	for path, methods := range readOpenAPI(t).Paths {
		for method, operation := range methods {
			text := string(operation)
			asks, has := strings.Contains(text, "#/components/parameters/banyanToken"), strings.Contains(text, "#/components/headers/banyanToken")
			if told := path != "/healthz" && path != "/openapi.json"; has != told || asks != (told && method == "get") {
				t.Errorf("%s %s: the token in the request is described: %t, in the answer: %t", method, path, asks, has)
			}
		}
	}
}
