package backfill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pbx-operator/pbx-operator/api/v1alpha1"
	"github.com/pbx-operator/pbx-operator/receiver/callhistory"
	"github.com/pbx-operator/pbx-operator/receiver/eventurl"
)

// Secrets reads the key rings.
type Secrets interface {
	Get(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error)
}

// Sender sends records to receivers over HTTP.
type Sender struct {
	Secrets Secrets
	HTTP    *http.Client
	// Address is where the receiver of an integration takes events inside the cluster, without a
	// path.
	Address func(p *v1alpha1.PBXIntegration) string
}

var _ Receiver = Sender{}

// Send implements Receiver. Its errors do not hold the event URL.
func (s Sender) Send(ctx context.Context, p *v1alpha1.PBXIntegration, records []callhistory.Record) error {
	secret, err := s.Secrets.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: eventurl.SecretName(p.Name)})
	if err != nil {
		return fmt.Errorf("cannot read the keys of the event URLs: %w", err)
	}
	ring, err := eventurl.ParseRing(secret.Data)
	if err != nil {
		return fmt.Errorf("cannot use the keys of the event URLs: %w", err)
	}
	token := ring.InForce(p.Status.KeyGeneration).Current().Token(eventurl.Account(string(p.UID)))
	target := eventurl.URL(s.Address(p), token, callhistory.Path)
	for chunk := range slices.Chunk(records, callhistory.MaxRecords) {
		if err := s.post(ctx, target, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (s Sender) post(ctx context.Context, target string, records []callhistory.Record) error {
	body, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("cannot write records as JSON: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return errors.New("the receiver has no usable address")
	}
	request.Header.Set("Content-Type", callhistory.ContentType)
	response, err := s.HTTP.Do(request)
	if err != nil {
		return fmt.Errorf("cannot reach the receiver: %w", withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if response.StatusCode/100 == 2 {
		return nil
	}
	const longest = 512
	said, _ := io.ReadAll(io.LimitReader(response.Body, longest)) // whatever could be read of it
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return RefusedError{fmt.Sprintf("HTTP %d: %s", response.StatusCode, said)}
	}
	return fmt.Errorf("the receiver did not take the records: HTTP %d: %s", response.StatusCode, said)
}

// RefusedError tells that the receiver cannot use one of the records, and will not another time.
type RefusedError struct{ detail string }

func (e RefusedError) Error() string { return "the receiver does not understand a record: " + e.detail }

// withoutURL takes the address, which is a credential, out of an error.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
