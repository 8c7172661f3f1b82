package postgres_test

import (
	"strings"
	"testing"

	"github.com/pbx-operator/pbx-operator/hack/postgres"
)

func TestServerServesAndCleansUp(t *testing.T) {
	server, err := postgres.Start(t.Context(), postgres.Options{Settings: []string{"fsync=off"}})
	if err != nil {
		t.Fatal(err)
	}
	address, err := server.Create(t.Context(), "one two")
	if err != nil {
		t.Error(err)
	}
	if err := postgres.Execute(t.Context(), address, "CREATE TABLE t (); CREATE ROLE reader LOGIN PASSWORD 'right'"); err != nil {
		t.Error(err)
	}
	if err := postgres.Execute(t.Context(), server.URL("one two", "reader", "right"), "SELECT 1"); err != nil {
		t.Error(err)
	}
	if err := postgres.Execute(t.Context(), server.URL("one two", "reader", "wrong"), "SELECT 1"); err == nil {
		t.Error("a wrong password is accepted")
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if err := postgres.Execute(t.Context(), address, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("still there after the end: %v", err)
	}
}
