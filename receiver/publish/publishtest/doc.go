// Package publishtest proves publication on a real API server, and measures it.
package publishtest
