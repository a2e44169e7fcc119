package distkit_test

// Counting over TLS.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/distkit/distkit-go"
	"github.com/distkit/distkit-go/internal/redistest"
	"github.com/stretchr/testify/require"
)

func TestTLS_countsAndKnowsWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	certificate, key, trusted := newCertificate(t)
	server, addr := redistest.StartTLS(t, certificate, key)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin := redistest.NewClient(t, patient(server.Addr))

	// Connections break now and then: what was written into one is still applied once.
	options := patient(addr)
	options.TLSConfig = &tls.Config{RootCAs: trusted}
	client := redistest.NewClient(t, options)
	system, err := distkit.NewSystem(client, distkit.WithLogger(slog.New(slog.DiscardHandler)),
		distkit.WithBackoff(time.Millisecond, 10*time.Millisecond))
	require.NoError(t, err)
	const callers, calls = 4, 50
	var waiting sync.WaitGroup
	for range callers {
		waiting.Go(func() {
			for i := range calls {
				for _, c := range []distkit.Counter{system.Strict(), system.Lax()} {
					if _, err := c.Inc(ctx, keyA, 1); err != nil {
						t.Errorf("over TLS: %v", err)
						return
					}
				}
				if i%10 == 0 {
					_ = admin.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
				}
			}
		})
	}
	waiting.Wait()
	require.NoError(t, system.Shutdown(ctx))
	for _, kind := range []string{"strict_counter", "lax_counter"} {
		require.Equal(t, strconv.Itoa(callers*calls), admin.HGet(ctx, "distkit:"+kind, "a").Val(), kind)
	}

	// A client that does not know the certificate never gets as far as a command.
	options = patient(addr)
	options.TLSConfig, options.DialerRetries = &tls.Config{RootCAs: x509.NewCertPool()}, 1
	stranger, err := distkit.NewSystem(redistest.NewClient(t, options), distkit.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	brief, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	_, err = stranger.Strict().Inc(brief, keyA, 1)
	requireNotApplied(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "certificate")
	require.NoError(t, stranger.Shutdown(ctx))
	require.Equal(t, strconv.Itoa(callers*calls), admin.HGet(ctx, "distkit:strict_counter", "a").Val())
}

// newCertificate makes a certificate for the loopback interface: its file, that of
// its key, and whom to trust to trust it.
func newCertificate(t *testing.T) (certificate, key string, trusted *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "distkit test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)

	dir := t.TempDir()
	write := func(name, kind string, content []byte) (path string, text []byte) {
		path, text = filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path, text
	}
	certificate, text := write("server.crt", "CERTIFICATE", public)
	key, _ = write("server.key", "PRIVATE KEY", secret)
	trusted = x509.NewCertPool()
	require.True(t, trusted.AppendCertsFromPEM(text))
	return certificate, key, trusted
}
