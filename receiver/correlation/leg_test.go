package correlation_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pbx-operator/pbx-operator/receiver/callevent"
	"github.com/pbx-operator/pbx-operator/receiver/correlation"
)

// A leg that differs in any member is another one, except in its revision.
func TestSameSeesEveryMember(t *testing.T) {
	t.Parallel()
	members := reflect.TypeFor[correlation.Leg]()
	for i := range members.NumField() {
		var leg correlation.Leg
		differ(t, reflect.ValueOf(&leg).Elem().Field(i))
		name := members.Field(i).Name
		if got, want := leg.Same(correlation.Leg{}), name == "Revision"; got != want {
			t.Errorf("a leg with another %s is the same: %v, want %v", name, got, want)
		}
		if !leg.Same(leg) {
			t.Errorf("a leg with a %s differs from itself", name)
		}
	}
}

func differ(t *testing.T, member reflect.Value) {
	t.Helper()
	switch member.Interface().(type) {
	case time.Time:
		member.Set(reflect.ValueOf(start))
		return
	case map[string]string:
		member.Set(reflect.ValueOf(map[string]string{"tag.a": "b"}))
		return
	case []correlation.LegEvent:
		member.Set(reflect.ValueOf([]correlation.LegEvent{{Type: callevent.Answer}}))
		return
	}
	switch member.Kind() {
	case reflect.String:
		member.SetString("x")
	case reflect.Bool:
		member.SetBool(true)
	case reflect.Int64:
		member.SetInt(1)
	default:
		t.Fatalf("a leg has a member of type %s, of which this test knows no value", member.Type())
	}
}

// Legs that earlier receivers stored call it recorded.
func TestStoredLegsStayLogged(t *testing.T) {
	t.Parallel()
	want := correlation.Leg{CallID: "c", LegID: "1", Logged: true, Talk: time.Minute, Revision: 3}
	written, err := json.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	earlier := `{"callID":"c","legID":"1","kind":"","direction":"","phase":"","recorded":true,"talk":60000000000,"revision":3}`
	for _, text := range []string{string(written), earlier} {
		var got correlation.Leg
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	var members map[string]any
	if err := json.Unmarshal(written, &members); err != nil || members["logged"] != true || members["recorded"] != nil {
		t.Errorf("stored as %s", written)
	}
}
