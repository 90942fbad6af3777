// The least that a program needs of the run time.
package main

func main() {
	println("hello")
}
